//! Binding claims to volumes.
//!
//! ```text
//!   claim   Pending --volume found, both written--> Bound --volume gone--> Lost
//!   volume  Available --> Bound --claim gone--> Released --nobody can delete it--> Failed
//! ```
//!
//! A binding is written in four steps (the volume names the claim, the volume is bound, the claim names the volume,
//! the claim is bound), and each look goes on from whichever step was reached, so a crash in between leaves nothing
//! half bound.

mod fit;
mod reclaim;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer,
    error::is_not_found,
    events::{EventRecorder, EventType},
    object::object_reference,
};
use kube::api::PostParams;

use super::{claim_phase, volume_name, volume_phase};
use crate::{
    Context,
    error::{Error, Step},
};

const COMPONENT: &str = "persistentvolume-controller";
/// One: two claims must not be given the same volume at the same time.
const WORKERS: usize = 1;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_US: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONERS: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectKey),
    Volume(Arc<str>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("volumes");
    let (volumes, claims) = (wiring.cache::<PersistentVolume>(), wiring.cache::<PersistentVolumeClaim>());
    let classes = wiring.cache::<StorageClass>();
    let all = claims.clone();
    wiring.on(&volumes, move |change| {
        let volume = change.object();
        let concerned: Vec<_> = match claim_ref(volume) {
            Some(claim) => vec![Key::Claim(key_of(claim))],
            // Any claim that waits may want it.
            None => waiting(&all).collect(),
        };
        [Key::Volume(volume.name().into())].into_iter().chain(concerned)
    });
    wiring.on(&claims, |change| {
        let claim = change.object();
        let volume = Some(volume_name(claim)).filter(|name| !name.is_empty());
        let volume = volume.map(|name| Key::Volume(name.into()));
        [Key::Claim(ObjectKey::of(&**claim))].into_iter().chain(volume)
    });
    let all = claims.clone();
    wiring.on(&classes, move |_| waiting(&all));
    let sync = Sync {
        volumes,
        claims,
        classes,
        recorder: context.recorder(COMPONENT),
        client: context.client,
        clock: context.clock,
    };
    wiring.run(WORKERS, sync)
}

fn waiting(claims: &SharedInformer<PersistentVolumeClaim>) -> impl Iterator<Item = Key> + use<> {
    let waiting = claims.filter(|claim| claim_phase(claim) != "Bound");
    waiting.into_iter().map(|claim| Key::Claim(ObjectKey::of(&*claim)))
}

fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

fn key_of(reference: &ObjectReference) -> ObjectKey {
    ObjectKey::new(
        reference.namespace.as_deref().unwrap_or_default(),
        reference.name.as_deref().unwrap_or_default(),
    )
}

/// Whether a volume is this claim's, or kept for it by name.
fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|reference| {
        let uid = reference.uid.as_deref().unwrap_or_default();
        key_of(reference) == ObjectKey::of(claim) && (uid.is_empty() || uid == claim.uid())
    })
}

fn has_annotation(meta: &kube::api::ObjectMeta, key: &str) -> bool {
    meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(key))
}

struct Sync {
    volumes: SharedInformer<PersistentVolume>,
    claims: SharedInformer<PersistentVolumeClaim>,
    classes: SharedInformer<StorageClass>,
    client: Client,
    clock: SharedClock,
    recorder: EventRecorder,
}

impl Reconcile for Sync {
    type Key = Key;
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Action, Error> {
        match key {
            Key::Claim(key) => match self.claims.get_key(key) {
                Some(claim) if has_annotation(&claim.metadata, BIND_COMPLETED) => {
                    self.check_bound(&claim).await?
                }
                Some(claim) => self.find_volume(&claim).await?,
                None => {}
            },
            Key::Volume(name) => {
                if let Some(volume) = self.volumes.get("", name) {
                    self.check_volume(&volume).await?;
                }
            }
        }
        Ok(Action::Done)
    }
}

impl Sync {
    /// A claim that is not bound yet.
    async fn find_volume(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let wanted = volume_name(claim);
        if !wanted.is_empty() {
            let Some(volume) = self.volumes.get("", wanted) else {
                return self.set_claim(claim, "Pending", None).await;
            };
            if claim_ref(&volume).is_none() || is_for(&volume, claim) {
                return match fit::mismatch(&volume, claim) {
                    None => self.bind(&volume, claim).await,
                    Some(reason) => {
                        let text = format!("Cannot bind to requested volume {wanted:?}: {reason}");
                        self.recorder.event(claim, EventType::Warning, "VolumeMismatch", text);
                        self.set_claim(claim, "Pending", None).await
                    }
                };
            }
            let text = format!("volume {wanted:?} already bound to a different claim.");
            self.recorder.event(claim, EventType::Warning, "FailedBinding", text);
            return self.set_claim(claim, "Pending", None).await;
        }
        let class = self.class(claim);
        let delayed = class
            .as_ref()
            .is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let decided = has_annotation(&claim.metadata, SELECTED_NODE);
        let kept = |volume: &Arc<PersistentVolume>| is_for(volume, claim);
        let found = self.volumes.filter(|_| true).into_iter().filter(|volume| !delayed || kept(volume));
        if let Some(volume) = fit::best(found, claim, |volume| is_for(volume, claim)) {
            return self.bind(&volume, claim).await;
        }
        match class {
            Some(_) if delayed && !decided => {
                let text = "waiting for first consumer to be created before binding";
                self.recorder.event(claim, EventType::Normal, "WaitForFirstConsumer", text);
            }
            Some(class) if class.provisioner != NO_PROVISIONER => self.ask_provisioner(claim, &class).await?,
            _ => {
                let text = "no persistent volumes available for this claim and no storage class is set";
                self.recorder.event(claim, EventType::Normal, "FailedBinding", text);
            }
        }
        self.set_claim(claim, "Pending", None).await
    }

    fn class(&self, claim: &PersistentVolumeClaim) -> Option<Arc<StorageClass>> {
        let name = claim.spec.as_ref()?.storage_class_name.as_deref().filter(|name| !name.is_empty())?;
        self.classes.get("", name)
    }

    /// Notes on the claim who is to make its volume: provisioners look for their name there.
    async fn ask_provisioner(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
    ) -> Result<(), Error> {
        let provisioner = &class.provisioner;
        let noted = |key: &&str| {
            claim
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(*key))
                .is_some_and(|name| name == provisioner)
        };
        if !PROVISIONERS.iter().all(noted) {
            let mut updated = claim.clone();
            let annotations = updated.metadata.annotations.get_or_insert_default();
            annotations.extend(PROVISIONERS.map(|key| (key.to_owned(), provisioner.clone())));
            self.claims_api(claim)
                .replace(claim.name(), &PostParams::default(), &updated)
                .await
                .step("update claim", claim.name())?;
        }
        let text = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.recorder.event(claim, EventType::Normal, "ExternalProvisioning", text);
        Ok(())
    }

    /// A claim that was bound: is its volume still there and still its own?
    async fn check_bound(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let name = volume_name(claim);
        if name.is_empty() {
            let text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
            return self.lose(claim, "ClaimLost", text).await;
        }
        match self.volumes.get("", name) {
            None => {
                let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                self.lose(claim, "ClaimLost", text).await
            }
            Some(volume) if claim_ref(&volume).is_none() || is_for(&volume, claim) => {
                self.bind(&volume, claim).await
            }
            Some(_) => {
                let text = "Two claims are bound to the same volume, this one is bound incorrectly";
                self.lose(claim, "ClaimMisbound", text).await
            }
        }
    }

    async fn lose(&self, claim: &PersistentVolumeClaim, reason: &str, text: &str) -> Result<(), Error> {
        if claim_phase(claim) != "Lost" {
            self.set_claim(claim, "Lost", None).await?;
            self.recorder.event(claim, EventType::Warning, reason, text);
        }
        Ok(())
    }

    /// Goes on with the binding from wherever it is.
    async fn bind(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let volume = self.name_claim(volume, claim).await?;
        self.set_volume(&volume, "Bound").await?;
        let mut named = claim.clone();
        let annotations = named.metadata.annotations.get_or_insert_default();
        if volume_name(claim).is_empty() {
            annotations.insert(BOUND_BY_US.to_owned(), "yes".to_owned());
        }
        annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
        named.spec.get_or_insert_default().volume_name = Some(volume.name().to_owned());
        if named.metadata.annotations != claim.metadata.annotations || named.spec != claim.spec {
            let written = self.claims_api(claim).replace(claim.name(), &PostParams::default(), &named).await;
            named = written.step("update claim", claim.name())?;
        }
        self.set_claim(&named, "Bound", Some(&volume)).await
    }

    async fn name_claim(
        &self,
        volume: &PersistentVolume,
        claim: &PersistentVolumeClaim,
    ) -> Result<PersistentVolume, Error> {
        let mut named = volume.clone();
        let reference = claim_ref(volume);
        if reference.is_some_and(|reference| reference.uid.as_deref() == Some(claim.uid())) {
            return Ok(named);
        }
        if reference.is_none() {
            let annotations = named.metadata.annotations.get_or_insert_default();
            annotations.insert(BOUND_BY_US.to_owned(), "yes".to_owned());
        }
        named.spec.get_or_insert_default().claim_ref = Some(object_reference(claim));
        let written = self.volumes_api().replace(volume.name(), &PostParams::default(), &named).await;
        written.step("update volume", volume.name())
    }

    /// A volume by itself: who has it, and what becomes of it when its claim is gone?
    async fn check_volume(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let Some(reference) = claim_ref(volume) else { return self.set_volume(volume, "Available").await };
        let uid = reference.uid.as_deref().unwrap_or_default();
        if uid.is_empty() {
            return self.set_volume(volume, "Available").await;
        }
        let key = key_of(reference);
        let claim = match self.claims.get_key(&key).filter(|claim| claim.uid() == uid) {
            Some(claim) => Some((*claim).clone()),
            // Before a volume is given up the server is asked: its data may be deleted for it.
            None => {
                let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
                api.get_opt(&key.name).await.step("get claim", &key.name)?.filter(|claim| claim.uid() == uid)
            }
        };
        match claim {
            None => self.release(volume).await,
            Some(claim) if volume_name(&claim) == volume.name() => self.set_volume(volume, "Bound").await,
            // Its own look goes on with the binding.
            Some(claim) if volume_name(&claim).is_empty() => Ok(()),
            Some(_) if has_annotation(&volume.metadata, BOUND_BY_US) => self.free(volume).await,
            Some(_) => Ok(()),
        }
    }

    /// Takes back a binding of ours that the claim did not get to, as it was bound elsewhere meanwhile.
    async fn free(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let mut freed = volume.clone();
        freed.spec.get_or_insert_default().claim_ref = None;
        if let Some(annotations) = &mut freed.metadata.annotations {
            annotations.remove(BOUND_BY_US);
        }
        let freed = self.volumes_api().replace(volume.name(), &PostParams::default(), &freed).await;
        self.set_volume(&freed.step("update volume", volume.name())?, "Available").await
    }

    fn volumes_api(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    fn claims_api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), claim.namespace())
    }

    async fn set_volume(&self, volume: &PersistentVolume, phase: &str) -> Result<(), Error> {
        if volume_phase(volume) == phase {
            return Ok(());
        }
        let mut updated = volume.clone();
        let status = updated.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.message = None;
        status.last_phase_transition_time = Some(Time(self.clock.now()));
        match self.volumes_api().replace_status(volume.name(), &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update status of volume", volume.name()),
        }
    }

    /// Writes a claim's phase, and what it has when it is bound to a volume.
    async fn set_claim(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<(), Error> {
        let mut updated = claim.clone();
        let status = updated.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        match volume.and_then(|volume| volume.spec.as_ref()) {
            Some(spec) => {
                status.access_modes.clone_from(&spec.access_modes);
                // A claim that was bound keeps the size it knows: growing is told by whoever grows it.
                if claim_phase(claim) != "Bound" {
                    status.capacity.clone_from(&spec.capacity);
                }
                status.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
            }
            None if phase == "Pending" => (status.access_modes, status.capacity) = (None, None),
            None => {}
        }
        if updated.status == claim.status {
            return Ok(());
        }
        match self.claims_api(claim).replace_status(claim.name(), &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update status of claim", claim.name()),
        }
    }
}
