//! Role-based access control, from an index of bindings by subject.

mod binding;
mod covers;
mod index;
mod roles;

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::watch;

use self::index::{Bindings, ClusterBindings, NamespacedBindings};
use self::roles::{ClusterRoles, NamespacedRoles, Roles};
use super::follow::follow;
use super::{Attributes, Authorizer, Decision, Rule, Target};
use crate::objects::{Objects, Resource};
use crate::user::UserInfo;

pub use binding::{Binding, RoleRef, Subject};
pub use covers::covers;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Decides from Roles, ClusterRoles and their bindings as the watch cache has them.
///
/// An evaluation looks up the bindings of the user's name and of each group, cluster-wide and in the namespace,
/// and stops at the first rule that allows; other subjects' bindings cost nothing.
#[derive(Default)]
pub struct Rbac {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    roles: Roles,
    bindings: Bindings,
}

impl std::fmt::Debug for Rbac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rbac")
    }
}

impl Rbac {
    /// Follows the four resources until dropped. `ready` becomes true when all were seen completely.
    pub async fn run(&self, objects: Arc<dyn Objects>, ready: watch::Sender<bool>) {
        let channels: [_; 4] = std::array::from_fn(|_| watch::channel(false));
        let [roles, cluster_roles, bindings, cluster_bindings] = &channels;
        let watch = |plural| objects.watch(Resource::new(GROUP, plural));
        let all_synced = async {
            for (_, synced) in &channels {
                // The sender outlives this: it is dropped only when its follower ends, with the server.
                if synced.clone().wait_for(|synced| *synced).await.is_err() {
                    return;
                }
            }
            ready.send_replace(true);
        };
        tokio::join!(
            follow(watch("roles"), NamespacedRoles(self), roles.0.clone()),
            follow(watch("clusterroles"), ClusterRoles(self), cluster_roles.0.clone()),
            follow(watch("rolebindings"), NamespacedBindings(self), bindings.0.clone()),
            follow(watch("clusterrolebindings"), ClusterBindings(self), cluster_bindings.0.clone()),
            all_synced
        );
    }

    /// The rules that apply to a user cluster-wide and in a namespace, and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let state = self.state.read();
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        let visited = state.visit(user, namespace, |_, found| {
            match found {
                Ok(rule) => rules.push(rule.clone()),
                Err(error) => errors.push(error),
            }
            ControlFlow::<()>::Continue(())
        });
        debug_assert!(visited.is_continue(), "the visitor never breaks");
        (rules, errors)
    }

    /// The rules of a role as a binding in `namespace` (empty: a ClusterRoleBinding) refers to it.
    pub fn role_rules(&self, reference: &RoleRef, namespace: &str) -> Result<Vec<Rule>, String> {
        let state = self.state.read();
        Ok(state.roles.resolve(reference, namespace)?.to_vec())
    }
}

impl State {
    /// Shows every rule that applies to the user with the binding it comes from, until the visitor breaks.
    fn visit<'s, B>(
        &'s self,
        user: &UserInfo,
        namespace: &str,
        mut visitor: impl FnMut(&'s Binding, Result<&'s Rule, String>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for scope in std::iter::once("").chain((!namespace.is_empty()).then_some(namespace)) {
            for binding in self.bindings.of(user, scope) {
                match self.roles.resolve(&binding.role, scope) {
                    Err(error) => visitor(binding, Err(error))?,
                    Ok(rules) => {
                        for rule in rules {
                            visitor(binding, Ok(rule))?;
                        }
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let namespace = match asked.target {
            Target::Resource(target) => target.namespace,
            Target::Path(_) => "",
        };
        let mut errors: Vec<String> = Vec::new();
        let visited = self.visit(asked.user, namespace, |binding, found| match found {
            Ok(rule) if rule.allows(asked) => ControlFlow::Break(binding),
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                if !errors.contains(&error) {
                    errors.push(error);
                }
                ControlFlow::Continue(())
            }
        });
        match (visited, errors.as_slice()) {
            (ControlFlow::Break(binding), _) => {
                Decision::Allow(format!("RBAC: allowed by {}", binding.describe(asked.user)))
            }
            (ControlFlow::Continue(()), []) => Decision::NoOpinion(String::new()),
            (ControlFlow::Continue(()), [one]) => Decision::NoOpinion(format!("RBAC: {one}")),
            (ControlFlow::Continue(()), many) => Decision::NoOpinion(format!("RBAC: [{}]", many.join(", "))),
        }
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.state.read().decide(attributes)
    }
}

#[cfg(test)]
mod tests;
