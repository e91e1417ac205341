//! `/metrics/resource`: CPU and memory of containers, pods and the node, for those who scale by it.

use axum::extract::State as Extract;
use axum::response::Response;
use knarr_runtime::cri::ContainerStats;

use super::page::Page;
use crate::pod::spec;
use crate::server::State;
use crate::stats::{self, Depth, PodUse};

type Value = fn(&ContainerStats) -> f64;

const FAMILIES: [(&str, &str, &str, Value); 2] = [
    (
        "cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the {} in core-seconds",
        |stats| stats.cpu_usage_nanos as f64 / 1e9,
    ),
    ("memory_working_set_bytes", "gauge", "Current working set of the {} in bytes", |stats| {
        stats.memory_working_set as f64
    }),
];

pub async fn resource(Extract(state): Extract<State>) -> Response {
    let pods = stats::pods(&state.agent, &state.workers, Depth::CpuAndMemory).await;
    let node = state.agent.runtime.cgroup_stats("/").await;
    let mut page = Page::default();
    for (name, kind, help, value) in FAMILIES {
        let family = |of: &str| (format!("{of}_{name}"), format!("[STABLE] {}", help.replace("{}", of)));
        let (full, help) = family("container");
        page.family(&full, kind, &help);
        for_containers(&pods, |labels, used| {
            page.sample_at(&full, labels, value(&used.stats), used.stats.timestamp);
        });
        let (full, help) = family("node");
        page.family(&full, kind, &help);
        if let Ok(node) = &node {
            page.sample_at(&full, &[], value(node), node.timestamp);
        }
        let (full, help) = family("pod");
        page.family(&full, kind, &help);
        for used in &pods {
            let labels = [("namespace", spec::namespace(&used.pod)), ("pod", spec::name(&used.pod))];
            page.sample_at(&full, &labels, value(&used.whole), used.whole.timestamp);
        }
    }
    let started = "container_start_time_seconds";
    page.family(started, "gauge", "[STABLE] Start time of the container since unix epoch in seconds");
    for_containers(&pods, |labels, used| page.sample(started, labels, used.seen.started_at as f64 / 1e9));
    page.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    page.sample("resource_scrape_error", &[], f64::from(u8::from(node.is_err())));
    page.respond()
}

fn for_containers(pods: &[PodUse], mut each: impl FnMut(&[(&str, &str)], &stats::ContainerUse)) {
    for pod in pods {
        for used in &pod.containers {
            let labels = [
                ("container", used.seen.name.as_str()),
                ("namespace", spec::namespace(&pod.pod)),
                ("pod", spec::name(&pod.pod)),
            ];
            each(&labels, used);
        }
    }
}
