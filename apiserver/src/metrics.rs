//! The server's metrics, under upstream's names.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    proto,
};

use crate::request_info::RequestInfo;

const BUCKETS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    inflight: IntGaugeVec,
    watchers: IntGaugeVec,
    objects: IntGaugeVec,
}

/// A request that is being served.
pub struct Serving(IntGauge);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let requests = IntCounterVec::new(
            Opts::new("apiserver_request_total", "Requests by verb, resource and code."),
            &["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"],
        );
        let durations = HistogramVec::new(
            HistogramOpts::new("apiserver_request_duration_seconds", "How long requests took.")
                .buckets(BUCKETS.to_vec()),
            &["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"],
        );
        let inflight = IntGaugeVec::new(
            Opts::new("apiserver_current_inflight_requests", "Requests being served."),
            &["request_kind"],
        );
        let watchers = IntGaugeVec::new(
            Opts::new("apiserver_longrunning_requests", "Watches and connections being served."),
            &["verb", "group", "version", "resource", "subresource", "scope", "component"],
        );
        let objects =
            IntGaugeVec::new(Opts::new("apiserver_storage_objects", "Objects in the store."), &["resource"]);
        let valid = "the names and labels are constants and valid";
        let this = Self {
            registry: Registry::new(),
            requests: requests.expect(valid),
            durations: durations.expect(valid),
            inflight: inflight.expect(valid),
            watchers: watchers.expect(valid),
            objects: objects.expect(valid),
        };
        let all: [Box<dyn prometheus::core::Collector>; 5] = [
            Box::new(this.requests.clone()),
            Box::new(this.durations.clone()),
            Box::new(this.inflight.clone()),
            Box::new(this.watchers.clone()),
            Box::new(this.objects.clone()),
        ];
        for collector in all {
            this.registry.register(collector).expect("each is registered once");
        }
        this
    }

    /// For metrics of other parts of the server.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts a request that was answered.
    pub fn observe(&self, info: &RequestInfo, dry_run: bool, code: u16, took: Duration) {
        let dry_run = if dry_run { "All" } else { "" };
        let verb = verb(info);
        let labels = [
            verb.as_str(),
            dry_run,
            &info.group,
            &info.version,
            &info.resource,
            &info.subresource,
            scope(info),
            "apiserver",
        ];
        self.durations.with_label_values(&labels).observe(took.as_secs_f64());
        let code = code.to_string();
        let mut labels = labels.to_vec();
        labels.push(&code);
        self.requests.with_label_values(&labels).inc();
    }

    /// Counts a request as being served until the guard is dropped.
    pub fn serving(&self, info: &RequestInfo, long_running: bool) -> Serving {
        let gauge = if long_running {
            let verb = verb(info);
            self.watchers.with_label_values(&[
                verb.as_str(),
                &info.group,
                &info.version,
                &info.resource,
                &info.subresource,
                scope(info),
                "apiserver",
            ])
        } else {
            let reads = matches!(info.verb.as_str(), "get" | "list" | "head");
            self.inflight.with_label_values(&[if reads { "readOnly" } else { "mutating" }])
        };
        gauge.inc();
        Serving(gauge)
    }

    /// The text exposition. `stored` are the resources and how many objects there are of each.
    pub fn render<'a>(
        &self,
        stored: impl Iterator<Item = (&'a str, usize)>,
    ) -> Result<Vec<u8>, prometheus::Error> {
        self.objects.reset();
        for (resource, count) in stored {
            self.objects.with_label_values(&[resource]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut families: Vec<proto::MetricFamily> = self.registry.gather();
        // What the other components of this process measure.
        families.extend(prometheus::gather());
        let mut out = Vec::new();
        TextEncoder::new().encode(&families, &mut out)?;
        Ok(out)
    }
}

fn verb(info: &RequestInfo) -> String {
    match info.verb.as_str() {
        "create" => "POST".to_owned(),
        "update" => "PUT".to_owned(),
        other => other.to_ascii_uppercase(),
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource, info.names_object(), info.namespace.is_empty()) {
        (false, ..) => "",
        (_, true, _) => "resource",
        (_, _, false) => "namespace",
        (_, _, true) => "cluster",
    }
}
