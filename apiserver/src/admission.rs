//! What may be written and how it is completed on the way: one file per plugin, called in upstream's order.

use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::gvk::{GroupVersionKind, GroupVersionResource};
use knarr_api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;

use crate::audit::Record;
use crate::user::User;

mod catalogue;
mod certificates;
mod default_class;
mod default_toleration_seconds;
mod limit_ranger;
mod lookup;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod persistent_volume_claim_resize;
mod pod;
mod pod_resources;
mod pod_security;
mod pod_topology_labels;
pub(crate) mod policy;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
mod webhook;

pub use catalogue::{Chain, Context, standard};
pub use policy::{Index as PolicyIndex, report_status as report_policy_status};
pub use webhook::{Caller, Client, Hooks};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// exec, attach, port-forward and proxy.
    Connect,
}

impl Operation {
    /// As webhooks see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One write on its way through admission.
#[derive(Debug)]
pub struct Attributes {
    pub operation: Operation,
    pub kind: GroupVersionKind,
    pub resource: GroupVersionResource,
    /// Empty for the resource itself.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty when a create leaves the name to `generateName`.
    pub name: String,
    /// The object as it would be stored: the one to create, the updated one, the subresource's own object
    /// (Binding, Scale, PodExecOptions), nothing for a delete. Plugins change it in `admit`.
    pub object: Option<Value>,
    /// The object as it is stored; for updates and deletes.
    pub old_object: Option<Arc<Value>>,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions.
    pub options: Option<Value>,
    pub dry_run: bool,
    pub user: User,
    /// What goes back to the client in `Warning` headers and into the audit event.
    pub remarks: Arc<Remarks>,
}

impl Attributes {
    /// Whether this is about `plural` of `group` itself, not about a subresource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.is_resource(group, plural)
    }

    /// Whether this is about `plural` of `group` or any of its subresources.
    pub fn is_resource(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.resource == plural
    }

    /// The refusal of a plugin: 403 on the object being written.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        let name = match self.name.as_str() {
            "" => {
                let metadata = self.object.as_ref().map(|object| &object["metadata"]);
                let given = |field| metadata?[field].as_str().filter(|name| !name.is_empty());
                given("name").or_else(|| given("generateName")).unwrap_or("Unknown")
            }
            name => name,
        };
        Status::forbidden(&self.resource.group, &self.resource.resource, name, why)
    }
}

/// Collects what plugins have to say beside yes and no.
#[derive(Debug, Default)]
pub struct Remarks {
    warnings: Mutex<Vec<String>>,
    /// The request's record in the audit log, if it has one.
    record: Option<Arc<Record>>,
}

impl Remarks {
    /// Remarks on a request that is audited.
    pub fn on(record: Option<Arc<Record>>) -> Self {
        Self { record, ..Self::default() }
    }

    /// Adds a warning for the client; the same text is said once.
    pub fn warn(&self, text: impl Into<String>) {
        let (text, mut warnings) = (text.into(), self.warnings.lock());
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Adds an annotation to the audit event; the first value of a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        if let Some(record) = &self.record {
            record.annotate(key, value);
        }
    }

    /// As [`Self::annotate`], for what is told only where the request itself is.
    pub fn annotate_request(&self, key: impl Into<String>, value: impl FnOnce() -> String) {
        if let Some(record) = &self.record {
            record.annotate_request(key, value);
        }
    }

    /// Tells the audit event what was sent.
    pub fn sent(&self, sent: &Value) {
        if let Some(record) = &self.record {
            record.sent(sent);
        }
    }

    /// As [`Remarks::sent`], for a patch, JSON or YAML.
    pub fn patched(&self, patch: &[u8]) {
        if let Some(record) = &self.record {
            record.patched(patch);
        }
    }

    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }
}

/// One plugin, or the chain of all.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Whether `admit` and `validate` have anything to do for this operation.
    fn handles(&self, operation: Operation) -> bool;

    /// Completes and may refuse the object, before the strategy's defaults-after-admission and validation.
    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let _ = attributes;
        Ok(())
    }

    /// Refuses or accepts the object as it will be stored, after validation. On an update that lost a race it is
    /// called again with the newer old object.
    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let _ = attributes;
        Ok(())
    }
}
