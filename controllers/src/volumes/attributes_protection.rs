//! Keeping attribute classes that volumes and claims name from being deleted under them.

use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::VolumeAttributesClass,
};
use knarr_client::{Action, Api, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer};

use super::guard::Guard;
use crate::{Context, error::Error};

const CLASSES: Guard =
    Guard { finalizer: "kubernetes.io/vac-protection", update: "update volume attributes class" };
const WORKERS: usize = 1;
const BY_CLASS: &str = "attributes class";

/// The classes that a claim has, asks for, or is being given.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let status = claim.status.as_ref();
    let names = [
        claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone()),
        status.and_then(|status| status.current_volume_attributes_class_name.clone()),
        status.and_then(|status| {
            status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.clone()
        }),
    ];
    names.into_iter().flatten().filter(|name| !name.is_empty()).collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Vec<String> {
    let name = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.clone());
    name.into_iter().filter(|name| !name.is_empty()).collect()
}

/// The classes that an object names no more. Nothing is to be done about a class that is named anew.
fn let_go<K>(change: &Change<'_, K>, classes: fn(&K) -> Vec<String>) -> Vec<ObjectKey> {
    let gone = match change {
        Change::Added(_) => Vec::new(),
        Change::Updated { old, new } => {
            let kept = classes(new);
            classes(old).into_iter().filter(|name| !kept.contains(name)).collect()
        }
        Change::Deleted { last, .. } => classes(last),
    };
    gone.into_iter().map(|name| ObjectKey::new("", name)).collect()
}

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("vacprotection");
    let classes = wiring.root::<VolumeAttributesClass>();
    let (claims, volumes) = (wiring.cache::<PersistentVolumeClaim>(), wiring.cache::<PersistentVolume>());
    claims.add_index(BY_CLASS, classes_of_claim);
    volumes.add_index(BY_CLASS, class_of_volume);
    wiring.on(&claims, |change| let_go(change, classes_of_claim));
    wiring.on(&volumes, |change| let_go(change, class_of_volume));
    wiring.run(WORKERS, Classes { classes, claims, volumes, client: context.client })
}

struct Classes {
    classes: SharedInformer<VolumeAttributesClass>,
    claims: SharedInformer<PersistentVolumeClaim>,
    volumes: SharedInformer<PersistentVolume>,
    client: Client,
}

impl Reconcile for Classes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(class) = self.classes.get_key(key) else { return Ok(Action::Done) };
        let api = Api::<VolumeAttributesClass>::all(self.client.clone());
        CLASSES.keep(&api, &*class, async { Ok(self.is_used(class.name())) }).await
    }
}

impl Classes {
    fn is_used(&self, class: &str) -> bool {
        !self.claims.by_index(BY_CLASS, class).is_empty()
            || !self.volumes.by_index(BY_CLASS, class).is_empty()
    }
}
