//! The Node object's labels and status, from the machine, the runtime and the configuration.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knarr_runtime::cri::{ImageInfo, RuntimeInfo};

use crate::config::{Config, Machine};
use crate::eviction::thresholds::Amount;
use crate::images::collect::Disk;
use crate::resources::amount::{self, List};

/// What the scheduler may rely on here and cannot on older nodes; sorted, as the API wants it.
const DECLARED_FEATURES: [&str; 3] = [
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
];
/// Names per image in the status.
const MAX_NAMES: usize = 5;

pub fn labels(config: &Config, machine: &Machine) -> BTreeMap<String, String> {
    let mut labels = config.node_labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &machine.architecture),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

fn annotations(config: &Config) -> BTreeMap<String, String> {
    let mut annotations = config.node_annotations.clone();
    let attach_detach = "volumes.kubernetes.io/controller-managed-attach-detach";
    annotations.insert(attach_detach.to_owned(), "true".to_owned());
    annotations
}

fn max_pods(config: &Config, machine: &Machine) -> i64 {
    match config.pods_per_core {
        0 => config.max_pods,
        per_core => config.max_pods.min(per_core * machine.milli_cpu / 1000),
    }
}

/// What the machine has.
pub fn capacity(config: &Config, machine: &Machine, disk: Option<Disk>) -> List {
    let mut list = List::from([
        ("cpu".to_owned(), amount::cpu(machine.milli_cpu)),
        ("memory".to_owned(), amount::kibibytes(machine.memory_bytes)),
        ("pods".to_owned(), amount::count(max_pods(config, machine))),
    ]);
    if let Some(disk) = disk {
        let bytes = i64::try_from(disk.capacity).unwrap_or(i64::MAX);
        list.insert("ephemeral-storage".to_owned(), amount::kibibytes(bytes));
    }
    for (size, bytes) in &machine.hugepages {
        list.insert(format!("hugepages-{size}"), amount::count(*bytes));
    }
    list
}

/// What pods may have: capacity without what is reserved and what eviction keeps free.
pub fn allocatable(config: &Config, capacity: &List) -> List {
    let mut list = List::new();
    for (name, quantity) in capacity {
        let reserved = |map: &BTreeMap<String, String>| map.get(name).map(|text| Quantity(text.clone()));
        let reservations: Vec<Quantity> =
            reserved(&config.system_reserved).into_iter().chain(reserved(&config.kube_reserved)).collect();
        let value = if name == "cpu" {
            amount::cpu(left(amount::milli(quantity), reservations.iter().map(amount::milli).sum()))
        } else {
            let whole = amount::value(quantity);
            let kept = match name.as_str() {
                "memory" => config.eviction_hard.get("memory.available"),
                "ephemeral-storage" => config.eviction_hard.get("nodefs.available"),
                _ => None,
            };
            let kept = kept.and_then(|text| Amount::parse(text)).map_or(0, |amount| amount.of(whole));
            let left = left(whole, reservations.iter().map(amount::value).sum::<i64>().saturating_add(kept));
            if name == "memory" { amount::kibibytes(left) } else { amount::count(left) }
        };
        list.insert(name.clone(), value);
    }
    list
}

fn left(whole: i64, taken: i64) -> i64 {
    whole.saturating_sub(taken).max(0)
}

fn addresses(config: &Config) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    config
        .node_ips
        .iter()
        .map(|ip| address("InternalIP", ip.to_string()))
        .chain([address("Hostname", config.node_name.clone())])
        .collect()
}

/// The largest images, the largest first.
pub fn images(config: &Config, mut all: Vec<ImageInfo>) -> Vec<ContainerImage> {
    all.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    if let Ok(limit) = usize::try_from(config.node_status_max_images) {
        all.truncate(limit);
    }
    all.into_iter()
        .map(|image| {
            let names = image.repo_digests.into_iter().chain(image.repo_tags).take(MAX_NAMES).collect();
            ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
        })
        .collect()
}

fn system_info(config: &Config, machine: &Machine, runtime: &RuntimeInfo) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!("{}://{}", runtime.name, runtime.version),
        kernel_version: machine.kernel_version.clone(),
        // Deprecated upstream, which leaves it empty too.
        kube_proxy_version: String::new(),
        kubelet_version: config.version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

fn handlers(runtime: &RuntimeInfo) -> Vec<NodeRuntimeHandler> {
    let handler = |(name, features): &(String, knarr_runtime::cri::HandlerFeatures)| NodeRuntimeHandler {
        name: Some(name.clone()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
            user_namespaces: Some(features.user_namespaces),
        }),
    };
    runtime.handlers.iter().map(handler).collect()
}

/// Everything of the status but conditions, which need the clock.
pub fn status(
    config: &Config,
    machine: &Machine,
    runtime: &RuntimeInfo,
    disk: Option<Disk>,
    images: Vec<ContainerImage>,
) -> NodeStatus {
    let capacity = capacity(config, machine, disk);
    NodeStatus {
        allocatable: Some(allocatable(config, &capacity)),
        capacity: Some(capacity),
        addresses: Some(addresses(config)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: config.server.as_ref().map_or(0, |server| i32::from(server.address.port())),
            }),
        }),
        node_info: Some(system_info(config, machine, runtime)),
        images: Some(images).filter(|images| !images.is_empty()),
        runtime_handlers: Some(handlers(runtime)).filter(|handlers| !handlers.is_empty()),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        declared_features: Some(DECLARED_FEATURES.map(ToOwned::to_owned).to_vec()),
        ..NodeStatus::default()
    }
}

/// The object to register with.
pub fn node(config: &Config, machine: &Machine, status: NodeStatus) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config, machine)),
            annotations: Some(annotations(config)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: Some(config.provider_id.clone()).filter(|id| !id.is_empty()),
            taints: Some(config.register_with_taints.clone()).filter(|taints| !taints.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocatable_is_capacity_without_reservations_and_eviction_thresholds() {
        let mut config = Config::new("n", "/x");
        config.system_reserved.insert("cpu".into(), "500m".into());
        config.kube_reserved.insert("memory".into(), "1Gi".into());
        let machine = Machine { milli_cpu: 2000, memory_bytes: 4 << 30, ..Machine::default() };
        let disk = Disk { capacity: 1000 * 1024, available: 0 };
        let list = allocatable(&config, &capacity(&config, &machine, Some(disk)));
        assert_eq!(list["cpu"].0, "1500m");
        assert_eq!(list["memory"].0, format!("{}Ki", (3 << 20) - 100 * 1024));
        assert_eq!(list["ephemeral-storage"].0, (900 * 1024).to_string());
        assert_eq!(list["pods"].0, "110");
    }
}
