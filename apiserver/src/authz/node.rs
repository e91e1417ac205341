//! What a node's agent may do: everything about itself and its pods, and nothing else.
//!
//! A node may read a Secret, ConfigMap, claim or volume only if one of its pods uses it; the [`Relations`] say
//! which. For what is not about particular objects there are the rules of the ClusterRole `system:node`.

mod relations;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::watch;

use self::relations::{Attachments, Claimed, Pods, Requests, Slices, Used, Volumes};
use super::follow::follow;
use super::{Attributes, Authorizer, Decision, ResourceTarget, Rule, Target};
use crate::objects::{Objects, Resource};
use crate::user::UserInfo;

pub(super) use relations::Relations;

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The node a user is; `None` for users that are no nodes, empty for a node without a name.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.in_group(GROUP))
}

/// Authorizes members of `system:nodes`.
pub struct NodeAuthorizer {
    relations: RwLock<Relations>,
    /// What every node may do.
    rules: Vec<Rule>,
}

type Answer = Result<(), String>;

impl NodeAuthorizer {
    /// `rules` are those of the ClusterRole `system:node`.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { relations: RwLock::default(), rules }
    }

    /// Follows what relates objects to nodes, until dropped. `ready` becomes true when all was seen.
    pub async fn run(&self, objects: Arc<dyn Objects>, ready: watch::Sender<bool>) {
        let channels: [_; 5] = std::array::from_fn(|_| watch::channel(false));
        let [pods, volumes, attachments, slices, requests] = &channels;
        let all_synced = async {
            for (_, synced) in &channels {
                // The sender outlives this: it is dropped only when its follower ends, with the server.
                if synced.clone().wait_for(|synced| *synced).await.is_err() {
                    return;
                }
            }
            ready.send_replace(true);
        };
        let relations = &self.relations;
        tokio::join!(
            follow(objects.watch(Resource::core("pods")), Pods(relations), pods.0.clone()),
            follow(objects.watch(Resource::core("persistentvolumes")), Volumes(relations), volumes.0.clone()),
            follow(
                objects.watch(Resource::new("storage.k8s.io", "volumeattachments")),
                Attachments(relations),
                attachments.0.clone()
            ),
            follow(
                objects.watch(Resource::new("resource.k8s.io", "resourceslices")),
                Slices(relations),
                slices.0.clone()
            ),
            follow(
                objects.watch(Resource::new("certificates.k8s.io", "podcertificaterequests")),
                Requests(relations),
                requests.0.clone()
            ),
            all_synced
        );
    }

    fn decide(&self, node: &str, asked: &Attributes<'_>) -> Answer {
        let Target::Resource(target) = asked.target else { return self.by_rules(asked) };
        let (verb, subresource) = (asked.verb, target.subresource);
        match (target.group, target.resource) {
            ("", "secrets") => self.read(node, verb, target, Used::Secret),
            ("", "configmaps") => self.read(node, verb, target, Used::ConfigMap),
            ("", "persistentvolumeclaims") if subresource == "status" => {
                allow(matches!(verb, "update" | "patch"), "can only get/update/patch this type")?;
                self.related(node, target, Claimed::By(Used::VolumeClaim))
            }
            ("", "persistentvolumeclaims") => self.get(node, verb, target, Claimed::By(Used::VolumeClaim)),
            ("", "persistentvolumes") => self.get(node, verb, target, Claimed::Volume),
            ("resource.k8s.io", "resourceclaims") => {
                self.get(node, verb, target, Claimed::By(Used::ResourceClaim))
            }
            ("storage.k8s.io", "volumeattachments") => self.get(node, verb, target, Claimed::Attachment),
            ("", "serviceaccounts") if verb == "get" && subresource.is_empty() => {
                self.read(node, verb, target, Used::ServiceAccount)
            }
            ("", "serviceaccounts") => self.token(node, verb, target),
            ("coordination.k8s.io", "leases") => lease(node, verb, target),
            ("storage.k8s.io", "csinodes") => csi_node(node, verb, target),
            ("resource.k8s.io", "resourceslices") => self.slice(node, verb, target),
            ("", "nodes") => own_node(node, verb, target),
            ("", "pods") => self.pod(node, verb, target),
            ("certificates.k8s.io", "podcertificaterequests") => self.certificate(node, verb, target),
            _ => self.by_rules(asked),
        }
    }

    fn by_rules(&self, asked: &Attributes<'_>) -> Answer {
        allow(self.rules.iter().any(|rule| rule.allows(asked)), "")
    }

    fn related(&self, node: &str, target: ResourceTarget<'_>, what: Claimed) -> Answer {
        allow(!target.name.is_empty(), "No Object name found")?;
        let related = self.relations.read().related(node, what, target.namespace, target.name);
        if related { Ok(()) } else { Err(unrelated(node)) }
    }

    fn get(&self, node: &str, verb: &str, target: ResourceTarget<'_>, what: Claimed) -> Answer {
        allow(verb == "get", "can only get individual resources of this type")?;
        allow(target.subresource.is_empty(), "cannot get subresource")?;
        self.related(node, target, what)
    }

    fn read(&self, node: &str, verb: &str, target: ResourceTarget<'_>, what: Used) -> Answer {
        allow(matches!(verb, "get" | "list" | "watch"), "can only read resources of this type")?;
        allow(target.subresource.is_empty(), "cannot read subresource")?;
        allow(!target.namespace.is_empty(), "can only read namespaced object of this type")?;
        self.related(node, target, Claimed::By(what))
    }

    fn token(&self, node: &str, verb: &str, target: ResourceTarget<'_>) -> Answer {
        allow(
            verb == "create" && !target.name.is_empty(),
            "can only create tokens for individual service accounts",
        )?;
        allow(target.subresource == "token", "can only create token subresource of serviceaccount")?;
        self.related(node, target, Claimed::By(Used::ServiceAccount))
    }

    fn slice(&self, node: &str, verb: &str, target: ResourceTarget<'_>) -> Answer {
        allow(target.subresource.is_empty(), "cannot authorize ResourceSlice subresources")?;
        match verb {
            // NodeRestriction looks at the new object's node.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, target, Claimed::Slice),
            "watch" | "list" | "deletecollection" => allow(
                selects(target.field_selector, "spec.nodeName", node),
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection".into()),
        }
    }

    fn pod(&self, node: &str, verb: &str, target: ResourceTarget<'_>) -> Answer {
        match (target.subresource, verb) {
            ("", "get") => self.related(node, target, Claimed::Pod),
            ("", "list" | "watch") if selects(target.field_selector, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !target.name.is_empty() => self.related(node, target, Claimed::Pod),
            ("", "list" | "watch") => {
                Err("can only list/watch pods with spec.nodeName field selector".into())
            }
            // NodeRestriction limits these to the node's own pods, and creation to mirror pods.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn certificate(&self, node: &str, verb: &str, target: ResourceTarget<'_>) -> Answer {
        allow(
            target.subresource.is_empty(),
            "nodes may not access the status subresource of PodCertificateRequests",
        )?;
        match verb {
            "create" => Ok(()),
            "get" => self.related(node, target, Claimed::CertificateRequest),
            "list" | "watch" => allow(
                selects(target.field_selector, "spec.nodeName", node),
                "can only list/watch podcertificaterequests with nodeName field selector",
            ),
            other => Err(format!("nodes may not {other} podcertificaterequests")),
        }
    }
}

fn allow(condition: bool, otherwise: &str) -> Answer {
    if condition { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn lease(node: &str, verb: &str, target: ResourceTarget<'_>) -> Answer {
    allow(
        matches!(verb, "get" | "create" | "update" | "patch" | "delete"),
        "can only get, create, update, patch, or delete a node lease",
    )?;
    if target.namespace != LEASE_NAMESPACE {
        return Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    // A create's name is in the object, where NodeRestriction looks at it.
    allow(
        verb == "create" || target.name == node,
        "can only access node lease with the same name as the requesting node",
    )
}

fn csi_node(node: &str, verb: &str, target: ResourceTarget<'_>) -> Answer {
    allow(
        matches!(verb, "get" | "create" | "update" | "patch" | "delete"),
        "can only get, create, update, patch, or delete a CSINode",
    )?;
    allow(target.subresource.is_empty(), "cannot authorize CSINode subresources")?;
    allow(
        verb == "create" || target.name == node,
        "can only access CSINode with the same name as the requesting node",
    )
}

fn own_node(node: &str, verb: &str, target: ResourceTarget<'_>) -> Answer {
    match (target.subresource, verb) {
        // NodeRestriction limits these to the node's own object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        // By name, so that an agent can look for its Node before there is one.
        ("", "get" | "list" | "watch") => match target.name {
            name if name == node => Ok(()),
            "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => Err(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => Err(String::new()),
    }
}

/// Whether a field selector demands that a field equals a value.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    selector.split(',').any(|term| {
        let Some((key, rest)) = term.split_once('=') else { return false };
        // `a!=b` has its `!` left of the first `=`, so its key is not the field.
        key.trim() == field && rest.strip_prefix('=').unwrap_or(rest).trim() == value
    })
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match node_of(attributes.user) {
            None => Decision::NoOpinion(String::new()),
            Some("") => Decision::NoOpinion(format!("unknown node for user {:?}", attributes.user.name)),
            Some(node) => match self.decide(node, attributes) {
                Ok(()) => Decision::Allow(String::new()),
                Err(reason) => Decision::NoOpinion(reason),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::follow::Index;
    use crate::objects::Stored;
    use serde_json::json;

    fn stored(namespace: &str, name: &str, json: serde_json::Value) -> Stored {
        Stored { namespace: namespace.into(), name: name.into(), json: json.to_string().into() }
    }

    fn authorizer() -> NodeAuthorizer {
        let authorizer = NodeAuthorizer::new(Vec::new());
        let pod = json!({"metadata": {"name": "web", "namespace": "a", "uid": "1"}, "spec": {
            "nodeName": "n1",
            "serviceAccountName": "robot",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "k"}}}]}],
            "volumes": [
                {"name": "s", "secret": {"secretName": "cert"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}
            ]
        }});
        Pods(&authorizer.relations).set(&stored("a", "web", pod));
        let volume = json!({"spec": {"claimRef": {"namespace": "a", "name": "data"},
            "csi": {"driver": "d", "volumeHandle": "h", "nodeStageSecretRef": {"namespace": "csi", "name": "stage"}}}});
        Volumes(&authorizer.relations).set(&stored("", "pv1", volume));
        authorizer
    }

    async fn ask(
        authorizer: &NodeAuthorizer,
        node: &str,
        verb: &str,
        target: ResourceTarget<'_>,
    ) -> Decision {
        let user = UserInfo::new(format!("system:node:{node}"), [GROUP]);
        authorizer.authorize(&Attributes { user: &user, verb, target: Target::Resource(target) }).await
    }

    #[tokio::test]
    async fn a_node_reads_what_its_pods_use_and_no_other_node_does() {
        let authorizer = authorizer();
        let core =
            |resource, namespace, name| ResourceTarget { resource, namespace, name, ..Default::default() };
        let used = [
            core("secrets", "a", "pull"),
            core("secrets", "a", "cert"),
            core("configmaps", "a", "env"),
            core("configmaps", "a", "kube-root-ca.crt"),
            core("persistentvolumeclaims", "a", "data"),
            core("persistentvolumes", "", "pv1"),
            core("secrets", "csi", "stage"),
            core("pods", "a", "web"),
            core("serviceaccounts", "a", "robot"),
        ];
        for target in used {
            assert!(ask(&authorizer, "n1", "get", target).await.is_allowed(), "{target:?}");
            let refused = ask(&authorizer, "n2", "get", target).await;
            assert_eq!(
                refused.reason(),
                "no relationship found between node 'n2' and this object",
                "{target:?}"
            );
        }
        for target in [core("secrets", "a", "other"), core("secrets", "b", "cert"), core("secrets", "a", "")]
        {
            assert!(!ask(&authorizer, "n1", "get", target).await.is_allowed(), "{target:?}");
        }
        assert!(!ask(&authorizer, "n1", "update", core("secrets", "a", "cert")).await.is_allowed());

        Pods(&authorizer.relations).remove("a", "web");
        assert!(!ask(&authorizer, "n1", "get", core("secrets", "a", "cert")).await.is_allowed());
        assert!(authorizer.relations.read().is_forgotten(), "nothing is kept for pods that are gone");
    }

    #[tokio::test]
    async fn lists_of_pods_are_for_the_nodes_own_only() {
        let authorizer = authorizer();
        let pods = |field_selector| ResourceTarget { resource: "pods", field_selector, ..Default::default() };
        assert!(ask(&authorizer, "n1", "list", pods("spec.nodeName=n1")).await.is_allowed());
        assert!(
            ask(&authorizer, "n1", "watch", pods("status.phase!=Failed,spec.nodeName==n1"))
                .await
                .is_allowed()
        );
        for selector in ["", "spec.nodeName=n2", "spec.nodeName!=n1"] {
            assert!(!ask(&authorizer, "n1", "list", pods(selector)).await.is_allowed(), "{selector}");
        }
    }
}
