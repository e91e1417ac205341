//! A node's agent changes only what is its own: the authorizer does not see objects, so this does.

mod labels;
mod pods;
mod tokens;

use async_trait::async_trait;
use knarr_api::status::Status;
use serde_json::Value;

use super::lookup::Lookup;
use super::pod::text;
use super::{Admission, Attributes, Operation};
use crate::authz::{SharedAuthorizer, node_of};
use crate::objects::Resource;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const KUBELET_SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

pub struct NodeRestriction {
    pub lookup: Lookup,
    pub authorizer: SharedAuthorizer,
}

/// A refusal; the object's name is put before it.
type Why = String;

impl NodeRestriction {
    async fn check(&self, node: &str, attributes: &Attributes) -> Result<(), Status> {
        let resource = (attributes.resource.group.as_ref(), attributes.resource.resource.as_ref());
        let checked = match resource {
            ("", "pods") => return self.pod(node, attributes).await,
            ("", "nodes") => own_node(node, attributes),
            ("", "persistentvolumeclaims") => claim_status(node, attributes),
            ("", "serviceaccounts") => return self.token(node, attributes).await,
            ("certificates.k8s.io", "podcertificaterequests") => {
                return self.certificate_request(node, attributes).await;
            }
            ("coordination.k8s.io", "leases") => lease(node, attributes),
            ("storage.k8s.io", "csinodes") => same_name(
                node,
                attributes,
                "can only access CSINode with the same name as the requesting node",
            ),
            ("resource.k8s.io", "resourceslices") => slice(node, attributes),
            ("certificates.k8s.io", "certificatesigningrequests") => signing_request(node, attributes),
            _ => Ok(()),
        };
        checked.map_err(|why| attributes.forbidden(why))
    }

    async fn object(&self, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
        let found = self.lookup.get(Resource::core(plural), namespace, name).await?;
        found.ok_or_else(|| Status::not_found("", plural, name))
    }
}

fn own_node(node: &str, attributes: &Attributes) -> Result<(), Why> {
    let requested = match attributes.operation {
        Operation::Create => {
            attributes.object.as_ref().map_or("", |object| text(&object["metadata"]["name"]))
        }
        _ => attributes.name.as_str(),
    };
    if requested != node {
        return Err(format!("node {node:?} is not allowed to modify node {requested:?}"));
    }
    let Some(object) = &attributes.object else { return Ok(()) };
    match (attributes.operation, attributes.old_object.as_deref()) {
        (Operation::Create, _) => {
            if !object["spec"]["configSource"].is_null() {
                return Err(format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let forbidden = labels::forbidden(&object["metadata"]["labels"], &Value::Null);
            if !forbidden.is_empty() {
                let forbidden = forbidden.join(", ");
                return Err(format!("node {node:?} is not allowed to set the following labels: {forbidden}"));
            }
        }
        (Operation::Update, Some(old)) => return node_update(node, object, old),
        _ => {}
    }
    Ok(())
}

fn node_update(node: &str, object: &Value, old: &Value) -> Result<(), Why> {
    let config = &object["spec"]["configSource"];
    if !config.is_null() && *config != old["spec"]["configSource"] {
        return Err(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    if !same_list(&object["spec"]["taints"], &old["spec"]["taints"]) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if !same_list(&object["metadata"]["ownerReferences"], &old["metadata"]["ownerReferences"]) {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let forbidden = labels::forbidden(&object["metadata"]["labels"], &old["metadata"]["labels"]);
    if forbidden.is_empty() {
        return Ok(());
    }
    Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")))
}

/// Equal lists; no list is an empty one.
fn same_list(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    a == b || (empty(a) && empty(b))
}

fn claim_status(node: &str, attributes: &Attributes) -> Result<(), Why> {
    if attributes.subresource != "status" {
        return Err("may only update PVC status".into());
    }
    if attributes.operation != Operation::Update {
        return Err(format!("unexpected operation {:?}", attributes.operation.as_str()));
    }
    let (Some(new), Some(old)) = (&attributes.object, attributes.old_object.as_deref()) else {
        return Ok(());
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
            for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
                status.remove(field);
            }
        }
        claim
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    Err(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    ))
}

fn same_name(node: &str, attributes: &Attributes, otherwise: &str) -> Result<(), Why> {
    let name = match attributes.operation {
        Operation::Create => {
            attributes.object.as_ref().map_or("", |object| text(&object["metadata"]["name"]))
        }
        _ => attributes.name.as_str(),
    };
    if name == node { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn lease(node: &str, attributes: &Attributes) -> Result<(), Why> {
    if attributes.namespace != LEASE_NAMESPACE {
        return Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    same_name(node, attributes, "can only access node lease with the same name as the requesting node")
}

fn slice(node: &str, attributes: &Attributes) -> Result<(), Why> {
    let (slice, verb) = match attributes.operation {
        Operation::Create => (attributes.object.as_ref(), "create"),
        Operation::Delete => (attributes.old_object.as_deref(), "delete"),
        _ => return Ok(()),
    };
    if slice.is_some_and(|slice| slice["spec"]["nodeName"] == node) {
        return Ok(());
    }
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

fn signing_request(node: &str, attributes: &Attributes) -> Result<(), Why> {
    let Some(object) = &attributes.object else { return Ok(()) };
    let signer = text(&object["spec"]["signerName"]);
    if attributes.operation != Operation::Create || !KUBELET_SIGNERS.contains(&signer) {
        return Ok(());
    }
    let name = super::certificates::common_name(text(&object["spec"]["request"]))
        .map_err(|error| format!("unable to parse csr: {error}"))?;
    if name == format!("system:node:{node}") {
        return Ok(());
    }
    Err(format!("can only create a node CSR with CN=system:node:{node}"))
}

#[async_trait]
impl Admission for NodeRestriction {
    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let user = attributes.user.clone();
        match node_of(&user) {
            None => Ok(()),
            Some("") => {
                Err(attributes.forbidden(format!("could not determine node from user {:?}", user.name)))
            }
            Some(node) => self.check(node, attributes).await,
        }
    }
}
