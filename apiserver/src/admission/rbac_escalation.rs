//! Nobody grants what they do not have: writing a role needs its permissions, or `escalate`; binding one needs its
//! permissions, or `bind`. Upstream asks this in the storage of these kinds.

use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::Status;
use serde::Deserialize;
use serde_json::Value;

use super::lookup::Lookup;
use super::{Admission, Attributes, Operation};
use crate::authz::{
    Attributes as Asked, Rbac, ResourceTarget, RoleRef, Rule, SharedAuthorizer, Target, covers, quoted,
};
use crate::objects::Resource;
use crate::user::MASTERS_GROUP;

const GROUP: &str = "rbac.authorization.k8s.io";

pub struct RbacEscalation {
    pub authorizer: SharedAuthorizer,
    pub rbac: Arc<Rbac>,
    pub lookup: Lookup,
}

#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

fn rules_of(role: &Value) -> Vec<Rule> {
    Rules::deserialize(role).ok().and_then(|role| role.rules).unwrap_or_default()
}

impl RbacEscalation {
    async fn may(
        &self,
        attributes: &Attributes,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> bool {
        let target = ResourceTarget {
            group: GROUP,
            version: "*",
            resource,
            namespace,
            name,
            ..ResourceTarget::default()
        };
        let asked = Asked { user: &attributes.user, verb, target: Target::Resource(target) };
        self.authorizer.authorize(&asked).await.is_allowed()
    }

    async fn role(&self, attributes: &Attributes, role: &Value) -> Result<(), Status> {
        let resource = attributes.resource.resource.as_ref();
        let old = attributes.old_object.as_deref();
        let unchanged = old.is_some_and(|old| {
            old["rules"] == role["rules"] && old["aggregationRule"] == role["aggregationRule"]
        });
        if unchanged
            || self.may(attributes, "escalate", resource, &attributes.namespace, &attributes.name).await
        {
            return Ok(());
        }
        // Whoever aggregates takes over rules of roles that do not exist yet, so that needs every permission.
        let aggregates = |role: &Value| role["aggregationRule"].is_object();
        if aggregates(role) || old.is_some_and(aggregates) {
            self.owns(attributes, &everything()).map_err(|why| {
                attributes.forbidden(format!(
                    "must have cluster-admin privileges to use the aggregationRule: {why}"
                ))
            })?;
        }
        self.owns(attributes, &rules_of(role)).map_err(|why| attributes.forbidden(why))
    }

    async fn binding(&self, attributes: &Attributes, binding: &Value) -> Result<(), Status> {
        let same =
            |old: &Value| old["roleRef"] == binding["roleRef"] && old["subjects"] == binding["subjects"];
        if attributes.old_object.as_deref().is_some_and(same) {
            return Ok(());
        }
        let reference = RoleRef::deserialize(&binding["roleRef"])
            .map_err(|error| Status::bad_request(format!("the role reference does not parse: {error}")))?;
        let (resource, role_namespace) = match &*reference.kind {
            "Role" => ("roles", attributes.namespace.as_str()),
            _ => ("clusterroles", ""),
        };
        // Who may bind a cluster role is asked where it is bound.
        if self.may(attributes, "bind", resource, &attributes.namespace, &reference.name).await {
            return Ok(());
        }
        let role: Option<Value> =
            self.lookup.get(Resource::new(GROUP, resource), role_namespace, &reference.name).await?;
        let role = role.ok_or_else(|| Status::not_found(GROUP, resource, &reference.name))?;
        self.owns(attributes, &rules_of(&role)).map_err(|why| attributes.forbidden(why))
    }

    fn owns(&self, attributes: &Attributes, wanted: &[Rule]) -> Result<(), String> {
        let user = &attributes.user;
        let (owned, errors) = self.rbac.rules_for(user, &attributes.namespace);
        let missing = covers(&owned, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = missing.iter().map(Rule::compact).collect();
        lines.sort();
        lines.dedup();
        let resolution = match errors.as_slice() {
            [] => String::new(),
            errors => format!("; resolution errors: [{}]", errors.join(" ")),
        };
        Err(format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}{resolution}",
            user.name,
            quoted(&user.groups),
            lines.join("\n")
        ))
    }
}

fn everything() -> [Rule; 2] {
    let all = || vec![Box::from("*")];
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

#[async_trait]
impl Admission for RbacEscalation {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(object) = &attributes.object else { return Ok(()) };
        if attributes.resource.group != GROUP || attributes.user.in_group(MASTERS_GROUP) {
            return Ok(());
        }
        match attributes.resource.resource.as_ref() {
            "roles" | "clusterroles" => self.role(attributes, object).await,
            "rolebindings" | "clusterrolebindings" => self.binding(attributes, object).await,
            _ => Ok(()),
        }
    }
}
