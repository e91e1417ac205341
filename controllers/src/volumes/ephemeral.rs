//! Making the claims that pods ask for in their own ephemeral volumes; each goes with its pod.

use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimTemplate, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{
    Action, Api, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer,
    error::{is_already_exists, is_namespace_terminating, message},
    events::{EventRecorder, EventType},
    object::{controller_of, controller_reference},
};
use kube::api::PostParams;

use crate::{
    Context,
    error::{Error, Step},
    pods,
};

const WORKERS: usize = 5;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("ephemeral_volume");
    let (pods, claims) = (wiring.cache::<Pod>(), wiring.cache::<PersistentVolumeClaim>());
    wiring.on(&pods, |change| {
        let pod = change.object();
        let gone = matches!(change, Change::Deleted { .. });
        let concerned = wanted(pod).next().is_some() && pods::is_active(pod) && !gone;
        concerned.then(|| ObjectKey::of(&**pod))
    });
    wiring.on(&claims, |change| {
        let Change::Deleted { last, .. } = change else { return None };
        let owner = controller_of(&last.metadata).filter(|owner| owner.kind == "Pod")?;
        Some(ObjectKey::new(last.namespace(), owner.name.as_str()))
    });
    let recorder = context.recorder("ephemeral_volume");
    wiring.run(WORKERS, Sync { pods, claims, client: context.client, recorder })
}

/// The names and templates of the claims a pod wants made.
fn wanted(pod: &Pod) -> impl Iterator<Item = (String, &PersistentVolumeClaimTemplate)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter_map(|volume| {
        let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
        Some((format!("{}-{}", pod.name(), volume.name), template))
    })
}

struct Sync {
    pods: SharedInformer<Pod>,
    claims: SharedInformer<PersistentVolumeClaim>,
    client: Client,
    recorder: EventRecorder,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(pod) = self.pods.get_key(key).filter(|pod| pods::is_active(pod)) else {
            return Ok(Action::Done);
        };
        for (name, template) in wanted(&pod) {
            if let Some(known) = self.claims.get(&key.namespace, &name) {
                let ours = controller_of(&known.metadata).is_some_and(|owner| owner.uid == pod.uid());
                if !ours {
                    return Err(Error::Unusable(format!("PVC {key}: {name} was not created for the pod")));
                }
                continue;
            }
            self.create(&pod, &name, template).await?;
        }
        Ok(Action::Done)
    }
}

impl Sync {
    async fn create(
        &self,
        pod: &Pod,
        name: &str,
        template: &PersistentVolumeClaimTemplate,
    ) -> Result<(), Error> {
        let own = template.metadata.clone().unwrap_or_default();
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: pod.metadata.namespace.clone(),
                labels: own.labels,
                annotations: own.annotations,
                owner_references: Some(vec![controller_reference(pod)]),
                ..ObjectMeta::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        };
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), pod.namespace());
        match api.create(&PostParams::default(), &claim).await {
            // Seen soon, and then it is checked whose it is.
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let volume = name.strip_prefix(&format!("{}-", pod.name())).unwrap_or(name);
                let text = format!("ephemeral volume {volume}: create PVC {name}: {}", message(&error));
                self.recorder.event(pod, EventType::Warning, "FailedBinding", text);
                Err(error).step("create claim", name)
            }
            Ok(_) => Ok(()),
        }
    }
}
