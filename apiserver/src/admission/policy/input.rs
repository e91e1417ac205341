//! What expressions are evaluated on.

use knarr_api::cel::{Activation, CheckTarget, EvalError, Opaque, Value as Cel};
use serde_json::{Value, json};

use super::environment::{namespace_type, request_type};
use crate::admission::Attributes;

/// The variables of one request, as a webhook or policy sees them.
pub struct Input {
    object: Value,
    old: Value,
    request: Value,
    /// Null for what is in no namespace.
    namespace: Value,
    resource_check: CheckTarget,
}

impl Input {
    /// `object` and `old` are in the version that matched.
    pub fn new(attributes: &Attributes, version: &str, object: Value, old: Value, namespace: Value) -> Self {
        let (kind, resource) = (&attributes.kind, &attributes.resource);
        let kind_of = |version: &str| json!({"group": kind.group, "version": version, "kind": kind.kind});
        let resource_of = |version: &str| json!({"group": resource.group, "version": version, "resource": resource.resource});
        let kind_version = if kind.version == resource.version { version } else { &kind.version };
        let request = json!({
            "kind": kind_of(kind_version),
            "resource": resource_of(version),
            "subResource": attributes.subresource,
            "requestKind": kind_of(&kind.version),
            "requestResource": resource_of(&resource.version),
            "requestSubResource": attributes.subresource,
            "name": attributes.name,
            "namespace": attributes.namespace,
            "operation": attributes.operation.as_str(),
            "userInfo": {
                "username": attributes.user.name,
                "uid": attributes.user.uid,
                "groups": attributes.user.groups,
                "extra": attributes.user.extra,
            },
            "dryRun": attributes.dry_run,
            "options": attributes.options,
        });
        let resource_check = CheckTarget::Resource {
            group: resource.group.to_string(),
            resource: resource.resource.to_string(),
            subresource: attributes.subresource.clone(),
            namespace: attributes.namespace.clone(),
            name: attributes.name.clone(),
            field_selector: String::new(),
            label_selector: String::new(),
        };
        Self { object, old, request, namespace: shown_namespace(namespace), resource_check }
    }

    pub fn object(&self) -> &Value {
        &self.object
    }

    /// The variables, but for the policy's own and its parameters.
    pub fn activation(&self) -> Result<Activation<'_>, EvalError> {
        let mut activation = Activation::new();
        activation.set("object", Cel::from_untyped(&self.object));
        activation.set("oldObject", Cel::from_untyped(&self.old));
        activation.set("request", Cel::from_json(&self.request, request_type())?);
        activation.set("namespaceObject", Cel::from_json(&self.namespace, namespace_type())?);
        let check = knarr_api::cel::Check {
            verb: String::new(),
            target: self.resource_check.clone(),
            service_account: None,
        };
        activation.set("authorizer.requestResource", Opaque::Check(Box::new(check)).into());
        Ok(activation)
    }
}

/// Only some fields of a Namespace are shown, and its uid under Go's name.
fn shown_namespace(mut namespace: Value) -> Value {
    if let Some(metadata) = namespace.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(uid) = metadata.remove("uid")
    {
        metadata.insert("UID".to_owned(), uid);
    }
    namespace
}
