//! `/metrics`, `/metrics/resource`, `/metrics/cadvisor`, `/metrics/probes`, in Prometheus' text format with upstream's
//! names.

use std::fmt::Write;

use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use http::header;
use knarr_runtime::cri::ContainerStats;

use super::State;
use crate::pod::observed::Seen;
use crate::pod::spec;
use crate::probes::ProbeKind;
use crate::resources::cgroups;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Text under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let list: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
            let _ = write!(self.0, "{{{}}}", list.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn respond(self) -> Response {
        ([(header::CONTENT_TYPE, TEXT)], self.0).into_response()
    }
}

pub async fn kubelet(Extract(state): Extract<State>) -> Response {
    let inboxes = state.workers.all();
    let mut page = Page::default();
    page.family("kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.");
    page.sample("kubelet_node_name", &[("node", &state.agent.config.node_name)], 1.0);
    let (mut running, mut containers) = (0.0, 0.0);
    for inbox in &inboxes {
        let observed = inbox.observed();
        running += f64::from(u8::from(observed.ready_sandbox().is_some()));
        containers += observed.running().count() as f64;
    }
    page.family("kubelet_running_pods", "gauge", "[BETA] Number of pods that have a running pod sandbox");
    page.sample("kubelet_running_pods", &[], running);
    page.family("kubelet_running_containers", "gauge", "[BETA] Number of containers currently running");
    page.sample("kubelet_running_containers", &[("container_state", "running")], containers);
    page.family(
        "kubelet_desired_pods",
        "gauge",
        "[ALPHA] The number of pods the kubelet is being instructed to run.",
    );
    page.sample("kubelet_desired_pods", &[("static", "")], inboxes.len() as f64);
    page.respond()
}

struct Usage {
    namespace: String,
    pod: String,
    uid: String,
    containers: Vec<(Seen, ContainerStats)>,
    whole: ContainerStats,
}

async fn usage(state: &State) -> Vec<Usage> {
    let mut all = Vec::new();
    for inbox in state.workers.all() {
        let (pod, observed) = (inbox.pod(), inbox.observed());
        let mut containers = Vec::new();
        for seen in observed.running() {
            if let Ok(stats) = state.agent.runtime.container_stats(&seen.id).await {
                containers.push((seen.clone(), stats));
            }
        }
        if containers.is_empty() {
            continue;
        }
        let cgroup = cgroups::of_pod(&state.agent.config.cgroup_root, &pod);
        all.push(Usage {
            namespace: spec::namespace(&pod).to_owned(),
            pod: spec::name(&pod).to_owned(),
            uid: spec::uid(&pod).to_owned(),
            containers,
            whole: state.agent.runtime.cgroup_stats(&cgroup).await.unwrap_or_default(),
        });
    }
    all
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

pub async fn resource(Extract(state): Extract<State>) -> Response {
    let pods = usage(&state).await;
    let node = state.agent.runtime.cgroup_stats("/").await.unwrap_or_default();
    let mut page = Page::default();
    type Value = fn(&ContainerStats) -> f64;
    let cpu: Value = |stats| seconds(stats.cpu_usage_nanos);
    let memory: Value = |stats| stats.memory_working_set as f64;
    let families: [(&str, &str, &str, Value); 2] = [
        ("cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the {} in core-seconds", cpu),
        ("memory_working_set_bytes", "gauge", "Current working set of the {} in bytes", memory),
    ];
    for (name, kind, help, value) in families {
        let family = |of: &str| (format!("{of}_{name}"), format!("[STABLE] {}", help.replace("{}", of)));
        let (full, help) = family("container");
        page.family(&full, kind, &help);
        for usage in &pods {
            for (seen, stats) in &usage.containers {
                let labels =
                    [("container", &*seen.name), ("namespace", &*usage.namespace), ("pod", &*usage.pod)];
                page.sample(&full, &labels, value(stats));
            }
        }
        let (full, help) = family("node");
        page.family(&full, kind, &help);
        page.sample(&full, &[], value(&node));
        let (full, help) = family("pod");
        page.family(&full, kind, &help);
        for usage in &pods {
            page.sample(&full, &[("namespace", &usage.namespace), ("pod", &usage.pod)], value(&usage.whole));
        }
    }
    page.family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
    );
    for usage in &pods {
        for (seen, _) in &usage.containers {
            let labels = [("container", &*seen.name), ("namespace", &*usage.namespace), ("pod", &*usage.pod)];
            page.sample("container_start_time_seconds", &labels, seen.started_at as f64 / 1e9);
        }
    }
    page.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    page.sample("resource_scrape_error", &[], 0.0);
    page.respond()
}

pub async fn cadvisor(Extract(state): Extract<State>) -> Response {
    let pods = usage(&state).await;
    let mut page = Page::default();
    type Value = fn(&ContainerStats) -> f64;
    let families: [(&str, &str, &str, Value); 5] = [
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |s| {
            seconds(s.cpu_usage_nanos)
        }),
        (
            "container_memory_usage_bytes",
            "gauge",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            |s| s.memory_usage as f64,
        ),
        ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |s| {
            s.memory_working_set as f64
        }),
        ("container_memory_rss", "gauge", "Size of RSS in bytes.", |s| s.memory_rss as f64),
        ("container_processes", "gauge", "Number of processes running inside the container.", |s| {
            s.processes as f64
        }),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for usage in &pods {
            for (seen, stats) in &usage.containers {
                let labels = [
                    ("container", &*seen.name),
                    ("id", &*seen.id),
                    ("image", &*seen.image),
                    ("name", &*seen.id),
                    ("namespace", &*usage.namespace),
                    ("pod", &*usage.pod),
                ];
                page.sample(name, &labels, value(stats));
            }
            let labels = [
                ("container", ""),
                ("id", &*usage.uid),
                ("image", ""),
                ("name", ""),
                ("namespace", &*usage.namespace),
                ("pod", &*usage.pod),
            ];
            page.sample(name, &labels, value(&usage.whole));
        }
    }
    page.respond()
}

pub async fn probes(Extract(state): Extract<State>) -> Response {
    let mut page = Page::default();
    page.family(
        "prober_probe_total",
        "counter",
        "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
    );
    for (labels, count) in state.agent.probes.counts() {
        let (key, result) = labels;
        let kind: ProbeKind = key.kind;
        let labels = [
            ("container", key.container.as_str()),
            ("namespace", &key.namespace),
            ("pod", &key.pod),
            ("pod_uid", &key.pod_uid),
            ("probe_type", kind.as_str()),
            ("result", result),
        ];
        page.sample("prober_probe_total", &labels, count as f64);
    }
    page.respond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.sample("m", &[("l", "a\"b\\c\nd")], 1.5);
        assert_eq!(page.0, "m{l=\"a\\\"b\\\\c\\nd\"} 1.5\n");
    }
}
