//! The server's metrics, under upstream's names.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, proto,
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
        let valid = "the names and labels are constants and valid";
        let this = Self {
            registry: Registry::new(),
            requests: requests.expect(valid),
            durations: durations.expect(valid),
            inflight: inflight.expect(valid),
            watchers: watchers.expect(valid),
        };
        let all: [Box<dyn prometheus::core::Collector>; 4] = [
            Box::new(this.requests.clone()),
            Box::new(this.durations.clone()),
            Box::new(this.inflight.clone()),
            Box::new(this.watchers.clone()),
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

    /// The gauge of short requests being served, `readOnly` or `mutating`.
    pub fn inflight(&self, mutating: bool) -> prometheus::IntGauge {
        self.inflight.with_label_values(&[if mutating { "mutating" } else { "readOnly" }])
    }

    /// The text exposition.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let families: Vec<proto::MetricFamily> = self.registry.gather();
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
