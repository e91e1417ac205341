//! Limits on the storage of one pod: of an emptyDir, of all its containers together, of one container.

use k8s_openapi::api::core::v1::Pod;

use super::messages;
use crate::pod::spec;
use crate::resources::amount;
use crate::resources::pod::{Which, total, whole};
use crate::stats::PodUse;

const STORAGE: &str = "ephemeral-storage";

/// Whether there is anything to measure the pod for.
pub fn has_any(pod: &Pod) -> bool {
    let sized = spec::spec(pod)
        .volumes
        .iter()
        .flatten()
        .any(|volume| volume.empty_dir.as_ref().is_some_and(|source| source.size_limit.is_some()));
    sized || total(pod, Which::Limits).contains_key(STORAGE)
}

/// Why the pod must go; `None` while it keeps within its limits.
pub fn exceeded(used: &PodUse) -> Option<String> {
    let pod = &used.pod;
    let more = |bytes: u64, limit: i64| i64::try_from(bytes).is_ok_and(|bytes| bytes > limit);
    for volume in spec::spec(pod).volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref());
        let seen = used.volumes.iter().find(|seen| seen.name == volume.name);
        let (Some(limit), Some(seen)) = (limit, seen) else { continue };
        if amount::value(limit) > 0 && more(seen.used.bytes, amount::value(limit)) {
            return Some(messages::empty_dir(&volume.name, &limit.0));
        }
    }
    if let Some(limit) = total(pod, Which::Limits).get(STORAGE).map(|milli| whole(*milli))
        && more(used.ephemeral().bytes, limit)
    {
        return Some(messages::whole_pod(&amount::bytes(limit).0));
    }
    used.containers.iter().find_map(|seen| {
        let container = spec::containers(pod).iter().find(|c| c.name == seen.seen.name)?;
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        let limit = limits.get(STORAGE).filter(|limit| amount::value(limit) > 0)?;
        let bytes = seen.rootfs.bytes.saturating_add(seen.logs.bytes);
        more(bytes, amount::value(limit)).then(|| messages::container(&container.name, &limit.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::VolumeUse;
    use knarr_runtime::cri::{ContainerStats, DiskUsage};
    use serde_json::json;
    use std::sync::Arc;

    fn used(bytes: u64) -> PodUse {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "main", "resources": {"limits": {"ephemeral-storage": "1Mi"}}}],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "64Ki"}}],
        }}))
        .expect("a pod");
        let scratch = VolumeUse {
            name: "scratch".into(),
            claim: None,
            ephemeral: true,
            used: DiskUsage { bytes, inodes: 1 },
            disk: None,
        };
        PodUse {
            pod: Arc::new(pod),
            started: 0,
            whole: ContainerStats::default(),
            cpu_rate: None,
            containers: Vec::new(),
            volumes: vec![scratch],
            network: Vec::new(),
        }
    }

    #[test]
    fn a_pod_goes_when_a_volume_or_all_of_it_is_too_large() {
        assert!(has_any(&used(0).pod));
        assert_eq!(exceeded(&used(64 << 10)), None);
        let message = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"64Ki\". ";
        assert_eq!(exceeded(&used(65 << 10)).as_deref(), Some(message));
        let mut large = used(2 << 20);
        if let Some(spec) = &mut Arc::make_mut(&mut large.pod).spec {
            spec.volumes.as_mut().expect("there")[0].empty_dir = Some(Default::default());
        }
        let message = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ";
        assert_eq!(exceeded(&large).as_deref(), Some(message));
    }
}
