//! What pods are told of their volumes, in upstream's words.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{core::v1::Pod, storage::v1::VolumeAttachment},
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_client::{
    Cached,
    events::{EventRecorder, EventType},
};
use parking_lot::Mutex;

use super::wanted::Wanted;

const FAILED: &str = "FailedAttachVolume";

/// Tells everything once.
pub(super) struct Events {
    recorder: EventRecorder,
    /// When the errors that were told last happened, by attachment.
    failures: Mutex<HashMap<String, Option<Time>>>,
    /// Volumes that another node has, by volume and the node that waits.
    taken: Mutex<HashSet<(String, String)>>,
}

impl Events {
    pub(super) fn new(recorder: EventRecorder) -> Self {
        Self { recorder, failures: Mutex::default(), taken: Mutex::default() }
    }

    pub(super) fn attached(&self, wanted: &Wanted) {
        // The blank at the end is upstream's.
        let text = format!("AttachVolume.Attach succeeded for volume {:?} ", wanted.persistent_volume);
        for pod in &wanted.pods {
            self.recorder.event(&**pod, EventType::Normal, "SuccessfulAttachVolume", text.clone());
        }
    }

    /// Tells what the attacher complains of, if it does.
    pub(super) fn failed(&self, wanted: &Wanted, attachment: &VolumeAttachment) {
        let error = attachment.status.as_ref().and_then(|status| status.attach_error.as_ref());
        let mut failures = self.failures.lock();
        let Some(error) = error else {
            failures.remove(attachment.name());
            return;
        };
        let told = failures.insert(attachment.name().to_owned(), error.time.clone());
        drop(failures);
        if told.as_ref() == Some(&error.time) {
            return;
        }
        let (volume, why) = (&wanted.persistent_volume, error.message.as_deref().unwrap_or_default());
        let text = format!("AttachVolume.Attach failed for volume {volume:?} : {why}");
        for pod in &wanted.pods {
            self.recorder.event(&**pod, EventType::Warning, FAILED, text.clone());
        }
    }

    /// Another node has the volume, for `users`.
    pub(super) fn taken(&self, wanted: &Wanted, node: &str, users: &[Arc<Pod>]) {
        if !self.taken.lock().insert((wanted.volume.name.clone(), node.to_owned())) {
            return;
        }
        for pod in &wanted.pods {
            let why = why_taken(pod, users);
            let text = format!("Multi-Attach error for volume {:?} {why}", wanted.persistent_volume);
            self.recorder.event(&**pod, EventType::Warning, FAILED, text);
        }
    }

    /// Nobody else has the volume any more.
    pub(super) fn free(&self, volume: &str, node: &str) {
        self.taken.lock().remove(&(volume.to_owned(), node.to_owned()));
    }
}

/// Users of a namespace do not see the names of pods of others.
fn why_taken(pod: &Pod, users: &[Arc<Pod>]) -> String {
    if users.is_empty() {
        return "Volume is already exclusively attached to one node and can't be attached to another"
            .to_owned();
    }
    let near: Vec<&str> =
        users.iter().filter(|user| user.namespace() == pod.namespace()).map(|user| user.name()).collect();
    let far = users.len() - near.len();
    match (near.is_empty(), far) {
        (true, _) => format!("Volume is already used by {far} pod(s) in different namespaces"),
        (false, 0) => format!("Volume is already used by pod(s) {}", near.join(", ")),
        (false, _) => {
            format!(
                "Volume is already used by pod(s) {} and {far} pod(s) in different namespaces",
                near.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;

    #[test]
    fn names_of_pods_stay_in_their_namespace() {
        let here = pod("a", "n", "Running", None);
        let mut far = pod("b", "n", "Running", None);
        far.metadata.namespace = Some("other".to_owned());
        let (near, far) = (Arc::new(pod("c", "n", "Running", None)), Arc::new(far));
        assert!(why_taken(&here, &[]).contains("exclusively"));
        assert_eq!(why_taken(&here, &[Arc::clone(&near)]), "Volume is already used by pod(s) c");
        assert_eq!(
            why_taken(&here, &[near, Arc::clone(&far)]),
            "Volume is already used by pod(s) c and 1 pod(s) in different namespaces"
        );
        assert_eq!(why_taken(&here, &[far]), "Volume is already used by 1 pod(s) in different namespaces");
    }
}
