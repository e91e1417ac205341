//! `/metrics/cadvisor`: containers and pods by their control groups, and the machine, under cAdvisor's names.

use axum::extract::State as Extract;
use axum::response::Response;
use knarr_runtime::cri::ContainerStats;

use super::page::Page;
use crate::pod::spec;
use crate::resources::cgroups;
use crate::server::State;
use crate::stats::network::Interface;
use crate::stats::{self, ContainerUse, Depth, PodUse};

type OfCgroup = fn(&ContainerStats) -> f64;
type OfInterface = fn(&Interface) -> u64;

const CGROUPS: [(&str, &str, &str, OfCgroup); 6] = [
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |s| {
        s.cpu_usage_nanos as f64 / 1e9
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
    ("container_last_seen", "gauge", "Last time a container was seen by the exporter", |s| {
        (s.timestamp / 1_000_000_000) as f64
    }),
];

const INTERFACES: [(&str, &str, OfInterface); 8] = [
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", |i| i.rx_bytes),
    (
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |i| i.rx_errors,
    ),
    (
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving",
        |i| i.rx_dropped,
    ),
    ("container_network_receive_packets_total", "Cumulative count of packets received", |i| i.rx_packets),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |i| i.tx_bytes),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |i| i.tx_errors,
    ),
    (
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
        |i| i.tx_dropped,
    ),
    ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", |i| i.tx_packets),
];

pub async fn cadvisor(Extract(state): Extract<State>) -> Response {
    let agent = &state.agent;
    let pods = stats::pods(agent, &state.workers, Depth::Everything).await;
    let root = &agent.config.cgroup_root;
    let mut page = Page::default();
    for (name, kind, help, value) in CGROUPS {
        page.family(name, kind, help);
        let cpu = name == "container_cpu_usage_seconds_total";
        for_cgroups(&pods, root, |labels, stats| {
            let mut labels = labels.to_vec();
            if cpu {
                labels.insert(1, ("cpu", "total"));
            }
            page.sample_at(name, &labels, value(stats), stats.timestamp);
        });
    }
    let used = "container_fs_usage_bytes";
    page.family(used, "gauge", "Number of bytes that are consumed by the container on this filesystem.");
    for_containers(&pods, root, |labels, of| {
        page.sample_at(used, labels, of.rootfs.bytes as f64, of.stats.timestamp);
    });
    let started = "container_start_time_seconds";
    page.family(started, "gauge", "Start time of the container since unix epoch in seconds.");
    for_containers(&pods, root, |labels, of| {
        let second = of.seen.started_at / 1_000_000_000;
        page.sample_at(started, labels, second as f64, of.stats.timestamp);
    });
    for (name, help, value) in INTERFACES {
        page.family(name, "counter", help);
        for pod in &pods {
            let cgroup = cgroups::of_pod(root, &pod.pod);
            for interface in &pod.network {
                let mut labels = labels(pod, &cgroup, "", "", "").to_vec();
                labels.insert(3, ("interface", interface.name.as_str()));
                page.sample_at(name, &labels, value(interface) as f64, pod.whole.timestamp);
            }
        }
    }
    page.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    page.sample("machine_cpu_cores", &[], (agent.machine.milli_cpu / 1000) as f64);
    page.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    page.sample("machine_memory_bytes", &[], agent.machine.memory_bytes as f64);
    page.respond()
}

type Labels<'a> = [(&'static str, &'a str); 6];

fn labels<'a>(pod: &'a PodUse, id: &'a str, container: &'a str, image: &'a str, name: &'a str) -> Labels<'a> {
    [
        ("container", container),
        ("id", id),
        ("image", image),
        ("name", name),
        ("namespace", spec::namespace(&pod.pod)),
        ("pod", spec::name(&pod.pod)),
    ]
}

/// Every pod's cgroup, and those of its containers.
fn for_cgroups(pods: &[PodUse], root: &str, mut each: impl FnMut(&Labels<'_>, &ContainerStats)) {
    for pod in pods {
        each(&labels(pod, &cgroups::of_pod(root, &pod.pod), "", "", ""), &pod.whole);
    }
    for_containers(pods, root, |labels, used| each(labels, &used.stats));
}

fn for_containers(pods: &[PodUse], root: &str, mut each: impl FnMut(&Labels<'_>, &ContainerUse)) {
    for pod in pods {
        let cgroup = cgroups::of_pod(root, &pod.pod);
        for used in &pod.containers {
            let id = format!("{cgroup}/{}", used.seen.id);
            each(&labels(pod, &id, &used.seen.name, &used.seen.image, &used.seen.id), used);
        }
    }
}
