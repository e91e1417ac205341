//! Roles and ClusterRoles.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Rbac, RoleRef};
use crate::authz::Rule;
use crate::authz::follow::Index;
use crate::objects::Stored;

type Name = Box<str>;

#[derive(Default)]
pub(super) struct Roles {
    namespaced: HashMap<Name, HashMap<Name, Vec<Rule>>>,
    cluster: HashMap<Name, Vec<Rule>>,
}

impl Roles {
    /// Errors: there is no such role, or the reference is of an unknown kind; in upstream's words.
    pub(super) fn resolve(&self, reference: &RoleRef, namespace: &str) -> Result<&[Rule], String> {
        let missing = |kind: &str| format!("{kind}.rbac.authorization.k8s.io {:?} not found", reference.name);
        match &*reference.kind {
            "Role" => {
                let roles = self.namespaced.get(namespace);
                let rules =
                    roles.and_then(|roles| roles.get(&reference.name)).ok_or_else(|| missing("role"))?;
                Ok(rules)
            }
            "ClusterRole" => {
                let rules = self.cluster.get(&reference.name).ok_or_else(|| missing("clusterrole"))?;
                Ok(rules)
            }
            other => Err(format!("unsupported role reference kind: {other:?}")),
        }
    }
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

fn parse(stored: &Stored) -> Vec<Rule> {
    match serde_json::from_slice::<Object>(&stored.json) {
        Ok(object) => object.rules.unwrap_or_default(),
        Err(error) => {
            // What cannot be read grants nothing.
            tracing::error!(%error, namespace = %stored.namespace, name = %stored.name, "role does not parse");
            Vec::new()
        }
    }
}

pub(super) struct NamespacedRoles<'a>(pub &'a Rbac);
pub(super) struct ClusterRoles<'a>(pub &'a Rbac);

impl Index for NamespacedRoles<'_> {
    fn set(&self, stored: &Stored) {
        let rules = parse(stored);
        let mut state = self.0.state.write();
        state
            .roles
            .namespaced
            .entry(stored.namespace.clone())
            .or_default()
            .insert(stored.name.clone(), rules);
    }

    fn remove(&self, namespace: &str, name: &str) {
        let mut state = self.0.state.write();
        if let Some(roles) = state.roles.namespaced.get_mut(namespace) {
            roles.remove(name);
            if roles.is_empty() {
                state.roles.namespaced.remove(namespace);
            }
        }
    }
}

impl Index for ClusterRoles<'_> {
    fn set(&self, stored: &Stored) {
        let rules = parse(stored);
        self.0.state.write().roles.cluster.insert(stored.name.clone(), rules);
    }

    fn remove(&self, _: &str, name: &str) {
        self.0.state.write().roles.cluster.remove(name);
    }
}
