//! `/pods`, `/runningpods`, `/healthz`, `/configz`.

use axum::Json;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::State;
use crate::pod::spec;

/// All pods of the node with the statuses the agent last computed.
pub async fn pods(Extract(state): Extract<State>) -> Response {
    let mut items: Vec<Pod> = state
        .workers
        .all()
        .into_iter()
        .map(|inbox| {
            let mut pod = (*inbox.pod()).clone();
            pod.status = state.agent.status.get(spec::uid(&pod)).or(pod.status);
            pod
        })
        .collect();
    items.sort_by(|a, b| (spec::namespace(a), spec::name(a)).cmp(&(spec::namespace(b), spec::name(b))));
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
}

/// What runs, by the runtime's word alone.
pub async fn running_pods(Extract(state): Extract<State>) -> Response {
    let items: Vec<Value> = state
        .workers
        .all()
        .into_iter()
        .filter_map(|inbox| {
            let (pod, observed) = (inbox.pod(), inbox.observed());
            let containers: Vec<Value> =
                observed.running().map(|c| json!({"name": c.name, "image": c.image, "resources": {}})).collect();
            (!containers.is_empty()).then(|| {
                json!({
                    "metadata": {
                        "name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid,
                    },
                    "spec": {"containers": containers},
                    "status": {},
                })
            })
        })
        .collect();
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
}

pub async fn healthz() -> &'static str {
    "ok"
}

/// The configuration under upstream's names.
pub async fn configz(Extract(state): Extract<State>) -> Response {
    let config = &state.agent.config;
    let duration = crate::events::go_duration;
    Json(json!({"kubeletconfig": {
        "staticPodPath": config.static_pod_path,
        "address": config.server.as_ref().map(|s| s.address.ip().to_string()),
        "port": config.server.as_ref().map(|s| s.address.port()),
        "clusterDomain": config.cluster_domain,
        "clusterDNS": config.cluster_dns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "nodeStatusUpdateFrequency": duration(config.node_status_update_frequency),
        "nodeStatusReportFrequency": duration(config.node_status_report_frequency),
        "nodeLeaseDurationSeconds": config.node_lease_duration_seconds,
        "imageMinimumGCAge": duration(config.image_minimum_gc_age),
        "imageMaximumGCAge": duration(config.image_maximum_gc_age),
        "imageGCHighThresholdPercent": config.image_gc_high_threshold_percent,
        "imageGCLowThresholdPercent": config.image_gc_low_threshold_percent,
        "maxPods": config.max_pods,
        "podsPerCore": config.pods_per_core,
        "podPidsLimit": config.pod_pids_limit,
        "resolvConf": config.resolv_conf,
        "cpuCFSQuota": config.cpu_cfs_quota,
        "cpuCFSQuotaPeriod": duration(config.cpu_cfs_quota_period),
        "nodeStatusMaxImages": config.node_status_max_images,
        "serializeImagePulls": config.serialize_image_pulls,
        "maxParallelImagePulls": config.max_parallel_image_pulls,
        "evictionHard": config.eviction_hard,
        "containerLogMaxSize": config.container_log_max_size.to_string(),
        "containerLogMaxFiles": config.container_log_max_files,
        "systemReserved": config.system_reserved,
        "kubeReserved": config.kube_reserved,
        "allowedUnsafeSysctls": config.allowed_unsafe_sysctls,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": true,
        "crashLoopBackOff": {"maxContainerRestartPeriod": duration(config.max_container_restart_period)},
    }}))
    .into_response()
}
