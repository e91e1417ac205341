//! Bindings by subject.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::Rbac;
use super::binding::{Binding, Key, RoleRef, Subject};
use crate::authz::follow::Index;
use crate::objects::Stored;
use crate::user::UserInfo;

type Name = Box<str>;

/// All bindings, indexed by namespace (empty: cluster-wide) and subject.
#[derive(Default)]
pub(super) struct Bindings {
    by_name: HashMap<(Name, Name), Arc<Binding>>,
    scopes: HashMap<Name, Scope>,
}

#[derive(Default)]
struct Scope {
    users: HashMap<Name, Vec<Arc<Binding>>>,
    groups: HashMap<Name, Vec<Arc<Binding>>>,
}

impl Scope {
    fn list(&mut self, key: Key) -> (&mut HashMap<Name, Vec<Arc<Binding>>>, Name) {
        match key {
            Key::User(name) => (&mut self.users, name),
            Key::Group(name) => (&mut self.groups, name),
        }
    }
}

impl Bindings {
    /// The bindings of one scope that name the user or one of the user's groups.
    pub(super) fn of<'s, 'u>(
        &'s self,
        user: &'u UserInfo,
        scope: &str,
    ) -> impl Iterator<Item = &'s Binding> + use<'s, 'u> {
        let scope = self.scopes.get(scope);
        let named = scope.and_then(|scope| scope.users.get(user.name.as_str())).into_iter().flatten();
        let grouped = user
            .groups
            .iter()
            .filter_map(move |group| scope.and_then(|scope| scope.groups.get(group.as_str())))
            .flatten();
        named.chain(grouped).map(|binding| &**binding)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.scopes.is_empty()
    }

    fn set(&mut self, binding: Binding) {
        self.remove(&binding.namespace, &binding.name);
        let binding = Arc::new(binding);
        let scope = self.scopes.entry(binding.namespace.clone()).or_default();
        for key in binding.subjects.iter().filter_map(|subject| subject.key(&binding.namespace)) {
            let (map, name) = scope.list(key);
            let list = map.entry(name).or_default();
            if !list.iter().any(|known| Arc::ptr_eq(known, &binding)) {
                list.push(binding.clone());
            }
        }
        self.by_name.insert((binding.namespace.clone(), binding.name.clone()), binding);
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let Some(binding) = self.by_name.remove(&(namespace.into(), name.into())) else { return };
        let Some(scope) = self.scopes.get_mut(namespace) else { return };
        for key in binding.subjects.iter().filter_map(|subject| subject.key(namespace)) {
            let (map, name) = scope.list(key);
            if let Some(list) = map.get_mut(&name) {
                list.retain(|known| !Arc::ptr_eq(known, &binding));
                if list.is_empty() {
                    map.remove(&name);
                }
            }
        }
        if scope.users.is_empty() && scope.groups.is_empty() {
            self.scopes.remove(namespace);
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

fn set(rbac: &Rbac, stored: &Stored) {
    match serde_json::from_slice::<Object>(&stored.json) {
        Ok(object) => rbac.state.write().bindings.set(Binding {
            namespace: stored.namespace.clone(),
            name: stored.name.clone(),
            role: object.role_ref,
            subjects: object.subjects.unwrap_or_default(),
        }),
        Err(error) => {
            // What cannot be read grants nothing.
            tracing::error!(%error, namespace = %stored.namespace, name = %stored.name, "role binding does not parse");
            rbac.state.write().bindings.remove(&stored.namespace, &stored.name);
        }
    }
}

pub(super) struct NamespacedBindings<'a>(pub &'a Rbac);
pub(super) struct ClusterBindings<'a>(pub &'a Rbac);

impl Index for NamespacedBindings<'_> {
    fn set(&self, stored: &Stored) {
        set(self.0, stored);
    }

    fn remove(&self, namespace: &str, name: &str) {
        self.0.state.write().bindings.remove(namespace, name);
    }
}

impl Index for ClusterBindings<'_> {
    fn set(&self, stored: &Stored) {
        set(self.0, stored);
    }

    fn remove(&self, _: &str, name: &str) {
        self.0.state.write().bindings.remove("", name);
    }
}
