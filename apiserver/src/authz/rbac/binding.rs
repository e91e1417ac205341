//! RoleBindings and ClusterRoleBindings as the evaluator sees them.

use serde::Deserialize;

use crate::authn::service_account::username;
use crate::user::UserInfo;

/// Which role a binding grants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoleRef {
    #[serde(default)]
    pub kind: Box<str>,
    #[serde(default)]
    pub name: Box<str>,
}

/// Who gets it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subject {
    #[serde(default)]
    pub kind: Box<str>,
    #[serde(default)]
    pub name: Box<str>,
    #[serde(default)]
    pub namespace: Box<str>,
}

/// A binding; `namespace` is empty for a ClusterRoleBinding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub role: RoleRef,
    pub subjects: Vec<Subject>,
}

/// What a subject is matched by.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    User(Box<str>),
    Group(Box<str>),
}

impl Subject {
    /// `None` for subjects that match nobody: unknown kinds, service accounts without any namespace.
    pub(super) fn key(&self, binding_namespace: &str) -> Option<Key> {
        match &*self.kind {
            "User" => Some(Key::User(self.name.clone())),
            "Group" => Some(Key::Group(self.name.clone())),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                (!namespace.is_empty()).then(|| Key::User(username(namespace, &self.name).into()))
            }
            _ => None,
        }
    }

    fn describe(&self, binding_namespace: &str) -> String {
        if &*self.kind != "ServiceAccount" {
            return format!("{} {:?}", self.kind, self.name);
        }
        let namespace = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
        format!("{} {:?}", self.kind, format!("{}/{namespace}", self.name))
    }
}

impl Binding {
    /// As the audit log says why a request of this user was allowed.
    pub(super) fn describe(&self, user: &UserInfo) -> String {
        let (kind, name) = match &*self.namespace {
            "" => ("ClusterRoleBinding", self.name.to_string()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.name)),
        };
        let subject = self.subjects.iter().find(|subject| match subject.key(&self.namespace) {
            Some(Key::User(name)) => *name == *user.name,
            Some(Key::Group(name)) => user.in_group(&name),
            None => false,
        });
        let subject = subject.map(|subject| subject.describe(&self.namespace)).unwrap_or_default();
        format!("{kind} {name:?} of {} {:?} to {subject}", self.role.kind, self.role.name)
    }
}
