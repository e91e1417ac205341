//! `/metrics`, `/metrics/resource`, `/metrics/cadvisor`, `/metrics/probes`, in Prometheus' text format with upstream's
//! names.

mod cadvisor;
mod page;
mod process;
mod resource;

use axum::extract::State as Extract;
use axum::response::Response;

use super::State;
use crate::pod::spec;
use crate::probes::ProbeKind;
use crate::stats::disk::{FileSystem, file_system};
use crate::volumes::{Mounted, claim};
pub use cadvisor::cadvisor;
use page::Page;
pub use resource::resource;

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
    let active = inboxes.iter().filter(|inbox| !inbox.terminating()).count();
    page.family(
        "kubelet_active_pods",
        "gauge",
        "[ALPHA] The number of pods the kubelet considers active and which are being considered when admitting new pods.",
    );
    page.sample("kubelet_active_pods", &[("static", "")], active as f64);
    volumes(&state, &mut page);
    process::write(&mut page, &state.agent.config.version);
    page.respond()
}

/// Room on the volumes behind claims: namespace, claim, file system.
fn claims(state: &State) -> Vec<(String, String, FileSystem)> {
    let mut found = Vec::new();
    for pod in state.workers.all().iter().map(|inbox| inbox.pod()) {
        let mounted = state.agent.volumes.of(spec::uid(&pod));
        for volume in spec::spec(&pod).volumes.iter().flatten() {
            let Some((claim, _)) = claim::claim_of(&pod, volume) else { continue };
            let Some(Mounted::Path { path, .. }) = mounted.get(&volume.name) else { continue };
            found.extend(file_system(path).map(|disk| (spec::namespace(&pod).to_owned(), claim, disk)));
        }
    }
    found
}

fn volumes(state: &State, page: &mut Page) {
    let claims = claims(state);
    type Value = fn(&FileSystem) -> u64;
    let families: [(&str, &str, Value); 6] = [
        ("kubelet_volume_stats_available_bytes", "Number of available bytes in the volume", |d| d.available),
        ("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", |d| d.capacity),
        ("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", |d| d.inodes),
        ("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", |d| d.inodes_free),
        ("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", FileSystem::inodes_used),
        ("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", FileSystem::used),
    ];
    for (name, help, value) in families {
        page.family(name, "gauge", &format!("[ALPHA] {help}"));
        for (namespace, claim, disk) in &claims {
            let labels = [("namespace", namespace.as_str()), ("persistentvolumeclaim", claim.as_str())];
            page.sample(name, &labels, value(disk) as f64);
        }
    }
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
