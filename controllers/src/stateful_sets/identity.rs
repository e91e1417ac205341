//! What the pod of an ordinal looks like. Pure.

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use knarr_client::Cached;

use crate::{
    pods::control::from_template,
    revisions::{REVISION_LABEL, Revisioned, template_of},
};

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

impl Revisioned for StatefulSet {
    fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }

    fn selector(&self) -> &LabelSelector {
        &self.spec.selector
    }

    fn history_limit(&self) -> Option<i32> {
        self.spec.revision_history_limit
    }
}

pub(super) fn replicas(set: &StatefulSet) -> usize {
    usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0)
}

/// The ordinal of the first pod.
pub(super) fn start(set: &StatefulSet) -> usize {
    let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    start.and_then(|start| usize::try_from(start).ok()).unwrap_or(0)
}

pub(super) fn pod_name(set: &StatefulSet, ordinal: usize) -> String {
    format!("{}-{ordinal}", set.name())
}

/// The ordinal of a pod by its name; `None` if it is no name of a pod of this set.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<usize> {
    let number = pod.name().strip_prefix(set.name())?.strip_prefix('-')?;
    let ordinal: usize = number.parse().ok()?;
    (number == ordinal.to_string()).then_some(ordinal)
}

pub(super) fn is_in_range(set: &StatefulSet, ordinal: usize) -> bool {
    (start(set)..start(set) + replicas(set)).contains(&ordinal)
}

pub(super) fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL)).map_or("", String::as_str)
}

pub(super) fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.volume_claim_templates.as_deref().unwrap_or_default()
}

pub(super) fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: usize) -> String {
    format!("{}-{}-{ordinal}", template.name(), set.name())
}

/// The claims a pod needs.
pub(super) fn claims(set: &StatefulSet, ordinal: usize) -> Vec<PersistentVolumeClaim> {
    let make = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template, ordinal));
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
        claim.status = None;
        claim
    };
    claim_templates(set).iter().map(make).collect()
}

/// The pod of an ordinal as a revision's template makes it.
pub(super) fn make(set: &StatefulSet, revision: &ControllerRevision, ordinal: usize) -> Pod {
    let template = template_of(revision).unwrap_or_else(|| set.spec.template.clone());
    let mut pod = from_template(&template, set);
    pod.metadata.generate_name = None;
    identify(set, &mut pod, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), revision.name().to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(pod_name(set, ordinal));
    spec.subdomain = set.spec.service_name.clone().filter(|name| !name.is_empty());
    attach(set, &mut pod, ordinal);
    pod
}

fn identify(set: &StatefulSet, pod: &mut Pod, ordinal: usize) {
    let name = pod_name(set, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    pod.metadata.name = Some(name);
    pod.metadata.namespace.clone_from(&set.metadata.namespace);
}

fn attach(set: &StatefulSet, pod: &mut Pod, ordinal: usize) {
    let templates = claim_templates(set);
    let spec = pod.spec.get_or_insert_default();
    let mut volumes: Vec<Volume> = templates
        .iter()
        .map(|template| Volume {
            name: template.name().to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, template, ordinal),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        })
        .collect();
    let own = spec.volumes.take().unwrap_or_default();
    volumes.extend(
        own.into_iter().filter(|volume| !templates.iter().any(|template| template.name() == volume.name)),
    );
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
}

/// Whether a pod still carries the names and volumes of its ordinal.
pub(super) fn is_itself(set: &StatefulSet, pod: &Pod, ordinal: usize) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let named = labels.and_then(|labels| labels.get(POD_NAME_LABEL)).is_some_and(|name| name == pod.name());
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    named
        && claim_templates(set).iter().all(|template| {
            let volume = volumes.iter().find(|volume| volume.name == template.name());
            let claim = volume.and_then(|volume| volume.persistent_volume_claim.as_ref());
            claim.is_some_and(|claim| claim.claim_name == claim_name(set, template, ordinal))
        })
}

/// Gives a pod its names and volumes back.
pub(super) fn repair(set: &StatefulSet, pod: &Pod, ordinal: usize) -> Pod {
    let mut pod = pod.clone();
    identify(set, &mut pod, ordinal);
    attach(set, &mut pod, ordinal);
    pod
}
