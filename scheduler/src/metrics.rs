//! What is measured of decisions, under upstream's names, in the process's default registry.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    exponential_buckets,
};

/// Attempts of which there are this many or more are counted together.
const MANY_ATTEMPTS: u32 = 15;

struct Families {
    attempts: IntCounterVec,
    attempt_durations: HistogramVec,
    algorithm_durations: Histogram,
    extension_points: HistogramVec,
    pending: IntGaugeVec,
    incoming: IntCounterVec,
    sli_durations: HistogramVec,
    pod_attempts: Histogram,
    preemptions: IntCounter,
    victims: Histogram,
    preemption_runs: IntCounterVec,
    preemption_durations: HistogramVec,
    cache: IntGaugeVec,
    binding: IntGaugeVec,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(Families::register);

fn registered<C: Collector + Clone + 'static>(made: prometheus::Result<C>) -> C {
    let collector = made.expect("the names and labels are constants and valid");
    // Only a second registration can be refused, and this is called once per process.
    prometheus::default_registry().register(Box::new(collector.clone())).expect("each is registered once");
    collector
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(IntCounterVec::new(Opts::new(format!("scheduler_{name}"), help), labels))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(IntGaugeVec::new(Opts::new(format!("scheduler_{name}"), help), labels))
}

/// Buckets that begin with `first` and double.
fn doubling(name: &str, help: &str, first: f64, buckets: usize) -> HistogramOpts {
    let buckets = exponential_buckets(first, 2.0, buckets).expect("the numbers are constants and valid");
    HistogramOpts::new(format!("scheduler_{name}"), help).buckets(buckets)
}

impl Families {
    fn register() -> Self {
        let histogram = |opts| registered(Histogram::with_opts(opts));
        let histograms = |opts, labels: &[&str]| registered(HistogramVec::new(opts, labels));
        Self {
            attempts: counters(
                "schedule_attempts_total",
                "Attempts to schedule pods, by result.",
                &["result", "profile"],
            ),
            attempt_durations: histograms(
                doubling(
                    "scheduling_attempt_duration_seconds",
                    "How long attempts took, with binding.",
                    0.001,
                    15,
                ),
                &["result", "profile"],
            ),
            algorithm_durations: histogram(doubling(
                "scheduling_algorithm_duration_seconds",
                "How long it took to choose a node.",
                0.001,
                15,
            )),
            extension_points: histograms(
                doubling(
                    "framework_extension_point_duration_seconds",
                    "How long all plugins of an extension point took.",
                    0.0001,
                    12,
                ),
                &["extension_point", "status", "profile"],
            ),
            pending: gauges("pending_pods", "Pods that wait, by queue.", &["queue"]),
            incoming: counters(
                "queue_incoming_pods_total",
                "Pods that came into a queue, by what brought them there.",
                &["queue", "event"],
            ),
            sli_durations: histograms(
                doubling(
                    "pod_scheduling_sli_duration_seconds",
                    "From the first attempt to schedule a pod until it was bound.",
                    0.01,
                    20,
                ),
                &["attempts"],
            ),
            pod_attempts: histogram(doubling(
                "pod_scheduling_attempts",
                "Attempts that it took to schedule a pod.",
                1.0,
                5,
            )),
            preemptions: registered(IntCounter::new(
                "scheduler_preemption_attempts_total",
                "Attempts to make room for a pod.",
            )),
            victims: histogram(doubling("preemption_victims", "Pods chosen to leave.", 1.0, 7)),
            preemption_runs: counters(
                "preemption_goroutines_execution_total",
                "Preemptions that were carried out.",
                &["result"],
            ),
            preemption_durations: histograms(
                doubling(
                    "preemption_goroutines_duration_seconds",
                    "How long it took to tell pods to leave.",
                    0.01,
                    20,
                ),
                &["result"],
            ),
            cache: gauges("cache_size", "Nodes and pods that the scheduler knows.", &["type"]),
            binding: gauges("goroutines", "Tasks under way, by what they do.", &["operation"]),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

/// What plugins of an extension point said, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Success,
    Unschedulable,
    Error,
}

/// One attempt to schedule a pod.
pub fn attempted(outcome: Outcome, profile: &str, took: Duration) {
    let result = match outcome {
        Outcome::Scheduled => "scheduled",
        Outcome::Unschedulable => "unschedulable",
        Outcome::Error => "error",
    };
    FAMILIES.attempts.with_label_values(&[result, profile]).inc();
    FAMILIES.attempt_durations.with_label_values(&[result, profile]).observe(took.as_secs_f64());
}

/// A pod was bound with this attempt, so long after the first.
pub fn bound(attempts: u32, since_first: Duration) {
    let number = match attempts {
        few if few < MANY_ATTEMPTS => few.to_string(),
        _ => format!("{MANY_ATTEMPTS}+"),
    };
    FAMILIES.sli_durations.with_label_values(&[&number]).observe(since_first.as_secs_f64());
    FAMILIES.pod_attempts.observe(f64::from(attempts));
}

/// A node was chosen.
pub fn chosen(took: Duration) {
    FAMILIES.algorithm_durations.observe(took.as_secs_f64());
}

pub fn ran(extension_point: &str, status: Status, profile: &str, took: Duration) {
    let status = match status {
        Status::Success => "Success",
        Status::Unschedulable => "Unschedulable",
        Status::Error => "Error",
    };
    FAMILIES
        .extension_points
        .with_label_values(&[extension_point, status, profile])
        .observe(took.as_secs_f64());
}

/// A pod came into a queue.
pub fn came(queue: &str, event: &str) {
    FAMILIES.incoming.with_label_values(&[queue, event]).inc();
}

pub fn preemption_tried() {
    FAMILIES.preemptions.inc();
}

/// Pods were chosen to leave.
pub fn preempting(victims: usize) {
    FAMILIES.victims.observe(victims as f64);
}

/// Pods were told to leave.
pub fn preempted(worked: bool, took: Duration) {
    let result = if worked { "success" } else { "error" };
    FAMILIES.preemption_runs.with_label_values(&[result]).inc();
    FAMILIES.preemption_durations.with_label_values(&[result]).observe(took.as_secs_f64());
}

/// Counts a binding as under way until it is dropped.
pub struct Binding(IntGauge);

impl Binding {
    pub fn begins() -> Self {
        let gauge = FAMILIES.binding.with_label_values(&["binding"]);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The numbers of one scheduler, as they are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    pub active: usize,
    pub backing_off: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

/// Gauges that are set with each turn of a scheduler.
pub struct Gauges {
    pending: [IntGauge; 4],
    nodes: IntGauge,
    pods: IntGauge,
    assumed: IntGauge,
}

impl Gauges {
    pub fn new() -> Self {
        let pending = |queue: &str| FAMILIES.pending.with_label_values(&[queue]);
        let cache = |kind: &str| FAMILIES.cache.with_label_values(&[kind]);
        Self {
            pending: ["active", "backoff", "unschedulable", "gated"].map(pending),
            nodes: cache("nodes"),
            pods: cache("pods"),
            assumed: cache("assumed_pods"),
        }
    }

    pub fn waiting(&self, sizes: Sizes) {
        let Sizes { active, backing_off, unschedulable, gated } = sizes;
        for (gauge, pods) in self.pending.iter().zip([active, backing_off, unschedulable, gated]) {
            gauge.set(count(pods));
        }
    }

    pub fn known(&self, nodes: usize, pods: usize, assumed: usize) {
        self.nodes.set(count(nodes));
        self.pods.set(count(pods));
        self.assumed.set(count(assumed));
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_attempts_are_counted_together() {
        let seen = |attempts: &str| FAMILIES.sli_durations.with_label_values(&[attempts]).get_sample_count();
        let before = seen("15+");
        bound(15, Duration::from_secs(1));
        bound(40, Duration::from_secs(1));
        assert!(seen("15+") >= before + 2);
        assert_eq!([seen("16"), seen("40")], [0, 0]);
    }

    #[test]
    fn attempts_are_counted_by_their_result_and_profile() {
        attempted(Outcome::Error, "only-here", Duration::from_millis(3));
        let labels = ["error", "only-here"];
        assert_eq!(FAMILIES.attempts.with_label_values(&labels).get(), 1);
        assert_eq!(FAMILIES.attempt_durations.with_label_values(&labels).get_sample_count(), 1);
        assert_eq!(FAMILIES.attempts.with_label_values(&["scheduled", "only-here"]).get(), 0);
    }
}
