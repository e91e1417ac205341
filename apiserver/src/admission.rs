//! What may be written and how it is completed on the way: one file per plugin, called in upstream's order.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;

use crate::user::User;

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

/// A kind or resource with group and version; `name` is the kind or the plural.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub name: Arc<str>,
}

/// One write on its way through admission.
#[derive(Debug)]
pub struct Attributes {
    pub operation: Operation,
    pub kind: Versioned,
    pub resource: Versioned,
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
        &*self.resource.group == group && &*self.resource.name == plural
    }
}

/// Collects what plugins have to say beside yes and no.
#[derive(Debug, Default)]
pub struct Remarks(Mutex<RemarksInner>);

#[derive(Debug, Default)]
struct RemarksInner {
    warnings: Vec<String>,
    audit: Vec<(String, String)>,
}

impl Remarks {
    /// Adds a warning for the client; the same text is said once.
    pub fn warn(&self, text: impl Into<String>) {
        let (text, mut inner) = (text.into(), self.0.lock());
        if !inner.warnings.contains(&text) {
            inner.warnings.push(text);
        }
    }

    /// Adds an annotation to the audit event; the first value of a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        let (key, mut inner) = (key.into(), self.0.lock());
        if !inner.audit.iter().any(|(known, _)| *known == key) {
            inner.audit.push((key, value.into()));
        }
    }

    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().warnings)
    }

    pub fn take_audit_annotations(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.0.lock().audit)
    }
}

/// One field-level cause of an `Invalid` answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueForbidden`, ...
    pub reason: &'static str,
    pub message: String,
    pub field: String,
}

/// Why a write is refused. The edge turns it into a Status.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// 403: `<resource> "<name>" is forbidden: <why>`; this carries only `<why>`.
    #[error("{0}")]
    Forbidden(String),
    /// 403 as above with causes in the details.
    #[error("{message}")]
    ForbiddenWith { message: String, causes: Vec<Cause> },
    /// 404 for another object than the one written: `<resource> "<name>" not found`.
    #[error("{resource} {name:?} not found")]
    NotFound { group: String, resource: String, name: String },
    /// 400 with this message.
    #[error("{0}")]
    BadRequest(String),
    /// 422 on the written object: `<Kind>.<group> "<name>" is invalid: ...`.
    #[error("invalid")]
    Invalid(Vec<Cause>),
    /// 409 on the written object: `Operation cannot be fulfilled on ...: <why>`.
    #[error("{0}")]
    Conflict(String),
    /// 500 with `Internal error occurred: <why>`.
    #[error("{0}")]
    Internal(String),
    /// 504 (`ServerTimeout` as upstream's `NewServerTimeout`), try again after so many seconds.
    #[error("{message}")]
    ServerTimeout { message: String, retry_after_seconds: u32 },
    /// A Status that a webhook or policy dictated, as it goes to the client.
    #[error("{}", .0["message"].as_str().unwrap_or("refused by admission"))]
    Status(Box<Value>),
}

/// One plugin, or the chain of all.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Whether `admit` and `validate` have anything to do for this operation.
    fn handles(&self, operation: Operation) -> bool;

    /// Completes and may refuse the object, before the strategy's defaults-after-admission and validation.
    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Error> {
        let _ = attributes;
        Ok(())
    }

    /// Refuses or accepts the object as it will be stored, after validation. On an update that lost a race it is
    /// called again with the newer old object.
    async fn validate(&self, attributes: &Attributes) -> Result<(), Error> {
        let _ = attributes;
        Ok(())
    }
}
