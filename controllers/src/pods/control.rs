//! Creating and deleting the pods of an owner, with the Events that tell about it.

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{
    Api, Client,
    error::{is_namespace_terminating, is_not_found, message},
    events::{EventRecorder, EventType},
    object::controller_reference,
};
use kube::{
    Resource,
    api::{DeleteParams, PostParams},
};

use crate::error::{Error, Step};

/// Writes pods on behalf of their owners.
#[derive(Clone)]
pub(crate) struct PodControl {
    pub(crate) client: Client,
    pub(crate) recorder: EventRecorder,
}

/// An object that pods are made for.
pub(crate) trait Owner: Resource<DynamicType = (), Scope = NamespaceResourceScope> {}
impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>> Owner for K {}

impl PodControl {
    fn api(&self, namespace: Option<&str>) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace.unwrap_or_default())
    }

    /// Creates a pod. Says so in an Event, or why not, unless the namespace is going away.
    pub(crate) async fn create<O: Owner>(&self, owner: &O, pod: &Pod) -> Result<Pod, Error> {
        if pod.metadata.labels.as_ref().is_none_or(|labels| labels.is_empty()) {
            return Err(Error::Unusable("unable to create pods, no labels".to_owned()));
        }
        match self.api(owner.meta().namespace.as_deref()).create(&PostParams::default(), pod).await {
            Ok(created) => {
                let name = created.metadata.name.as_deref().unwrap_or_default();
                self.recorder.event(
                    owner,
                    EventType::Normal,
                    "SuccessfulCreate",
                    format!("Created pod: {name}"),
                );
                Ok(created)
            }
            Err(error) => {
                if !is_namespace_terminating(&error) {
                    let text = format!("Error creating: {}", message(&error));
                    self.recorder.event(owner, EventType::Warning, "FailedCreate", text);
                }
                let name = pod.metadata.name.as_ref().or(pod.metadata.generate_name.as_ref());
                Err(error).step("create pod", name.map_or("", String::as_str))
            }
        }
    }

    /// Deletes a pod, if it is still the one we mean. A pod already gone is an error to be told by `is_gone`.
    pub(crate) async fn delete<O: Owner>(&self, owner: &O, pod: &Pod) -> Result<(), Error> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match self.api(owner.meta().namespace.as_deref()).delete(name, &DeleteParams::default()).await {
            Ok(_) => {
                self.recorder.event(
                    owner,
                    EventType::Normal,
                    "SuccessfulDelete",
                    format!("Deleted pod: {name}"),
                );
                Ok(())
            }
            Err(error) => {
                if !is_not_found(&error) {
                    let text = format!("Error deleting: {}", message(&error));
                    self.recorder.event(owner, EventType::Warning, "FailedDelete", text);
                }
                Err(error).step("delete pod", name)
            }
        }
    }
}

/// Whether a deletion failed because nothing is left to delete.
pub(crate) fn is_gone(error: &Error) -> bool {
    error.answer().is_some_and(is_not_found)
}

/// The pod a template describes, controlled by `owner` and named after it.
pub(crate) fn from_template<O: Owner>(template: &PodTemplateSpec, owner: &O) -> Pod {
    let metadata = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(name_prefix(owner.meta().name.as_deref().unwrap_or_default())),
            namespace: owner.meta().namespace.clone(),
            labels: metadata.and_then(|metadata| metadata.labels.clone()),
            annotations: metadata.and_then(|metadata| metadata.annotations.clone()),
            finalizers: metadata.and_then(|metadata| metadata.finalizers.clone()),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The owner's name and a dash, or without the dash where it would be one letter too many.
fn name_prefix(owner: &str) -> String {
    if owner.len() < 253 { format!("{owner}-") } else { owner.to_owned() }
}
