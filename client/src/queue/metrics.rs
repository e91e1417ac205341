//! What is measured of work queues, under upstream's names, in the process's default registry.

use std::{sync::LazyLock, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    core::Collector,
};

struct Families {
    depth: IntGaugeVec,
    adds: IntCounterVec,
    retries: IntCounterVec,
    waiting: HistogramVec,
    working: HistogramVec,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(Families::register);

fn registered<C: Collector + Clone + 'static>(made: prometheus::Result<C>) -> C {
    let collector = made.expect("the names and labels are constants and valid");
    // Only a second registration can be refused, and this is called once per process.
    prometheus::default_registry().register(Box::new(collector.clone())).expect("each is registered once");
    collector
}

impl Families {
    fn register() -> Self {
        let opts = |name, help| Opts::new(format!("workqueue_{name}"), help);
        let buckets =
            prometheus::exponential_buckets(1e-8, 10.0, 12).expect("the numbers are constants and valid");
        let seconds = |name, help| {
            HistogramVec::new(HistogramOpts::from(opts(name, help)).buckets(buckets.clone()), &["name"])
        };
        Self {
            depth: registered(IntGaugeVec::new(opts("depth", "Current depth of workqueue."), &["name"])),
            adds: registered(IntCounterVec::new(
                opts("adds_total", "Total number of adds handled by workqueue."),
                &["name"],
            )),
            retries: registered(IntCounterVec::new(
                opts("retries_total", "Total number of retries handled by workqueue."),
                &["name"],
            )),
            waiting: registered(seconds(
                "queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested.",
            )),
            working: registered(seconds(
                "work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
            )),
        }
    }
}

/// The measures of the queues of one name.
pub(super) struct Metrics {
    depth: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    waiting: Histogram,
    working: Histogram,
}

impl Metrics {
    pub(super) fn of(name: &str) -> Self {
        Self {
            depth: FAMILIES.depth.with_label_values(&[name]),
            adds: FAMILIES.adds.with_label_values(&[name]),
            retries: FAMILIES.retries.with_label_values(&[name]),
            waiting: FAMILIES.waiting.with_label_values(&[name]),
            working: FAMILIES.working.with_label_values(&[name]),
        }
    }

    pub(super) fn added(&self) {
        self.adds.inc();
    }

    pub(super) fn depth(&self, by: i64) {
        self.depth.add(by);
    }

    pub(super) fn retried(&self) {
        self.retries.inc();
    }

    pub(super) fn waited(&self, time: Duration) {
        self.waiting.observe(time.as_secs_f64());
    }

    pub(super) fn worked(&self, time: Duration) {
        self.working.observe(time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{QueueConfig, WorkQueue};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_named_queue_is_counted() {
        let queue = WorkQueue::named("counted", QueueConfig::default());
        queue.add("a");
        queue.add("a");
        queue.add("b");
        let metrics = Metrics::of("counted");
        assert_eq!((metrics.adds.get(), metrics.depth.get()), (2, 2));
        let key = queue.next().await.unwrap();
        queue.add_rate_limited(key);
        queue.done(&key);
        assert_eq!((metrics.depth.get(), metrics.retries.get()), (1, 1));
        assert_eq!((metrics.waiting.get_sample_count(), metrics.working.get_sample_count()), (1, 1));
    }
}
