//! ClusterRoles that take over the rules of others, chosen by label (`admin`, `edit`, `view`).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use knarr_api::selector::Selector;
use knarr_api::status::{Status, reason};
use serde_json::Value;

use crate::loopback::Loopback;
use crate::objects::{Change, Objects, Resource};

const RESOURCE: Resource<'static> = Resource::new("rbac.authorization.k8s.io", "clusterroles");

type Roles = BTreeMap<Box<str>, Value>;

/// Keeps the rules of aggregating roles equal to the union of those they select.
pub struct Aggregation {
    pub loopback: Loopback,
    pub objects: Arc<dyn Objects>,
}

/// The roles as known, and while a watch starts anew, as learnt again so far.
#[derive(Default)]
struct Known {
    roles: Roles,
    relearning: Option<Roles>,
}

impl Known {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Restart => self.relearning = Some(Roles::new()),
            Change::Set(stored) => match serde_json::from_slice(&stored.json) {
                Ok(role) => {
                    self.relearning.as_mut().unwrap_or(&mut self.roles).insert(stored.name, role);
                }
                Err(error) => tracing::error!(%error, name = %stored.name, "cluster role does not parse"),
            },
            Change::Removed(stored) => {
                self.relearning.as_mut().unwrap_or(&mut self.roles).remove(&stored.name);
            }
            Change::Synced => {
                if let Some(roles) = self.relearning.take() {
                    self.roles = roles;
                }
            }
        }
    }
}

impl Aggregation {
    /// Follows all ClusterRoles until dropped.
    pub async fn run(&self) {
        let mut changes = self.objects.watch(RESOURCE);
        let mut known = Known::default();
        while let Some(change) = changes.next().await {
            known.apply(change);
            // A burst of changes, as at start, is one reason to look.
            while let Some(Some(change)) = changes.next().now_or_never() {
                known.apply(change);
            }
            if known.relearning.is_none() {
                self.update(&mut known.roles).await;
            }
        }
    }

    async fn update(&self, roles: &mut Roles) {
        for (name, wanted) in outdated(roles) {
            match self.write(&name, &wanted).await {
                Ok(written) => {
                    roles.insert(name, written);
                }
                // Its newer state is on its way here and is looked at then.
                Err(status) if status.is(reason::CONFLICT) || status.is(reason::NOT_FOUND) => {}
                Err(status) => tracing::warn!(%name, %status, "aggregated cluster role not updated"),
            }
        }
    }

    async fn write(&self, name: &str, role: &Value) -> Result<Value, Status> {
        self.loopback.update(&format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}"), role).await
    }
}

/// The aggregating roles whose rules are not what they should be, as they should be.
///
/// Roles may select aggregating roles (`admin` takes over `edit`); each call carries rules one step further, and the
/// writes it leads to bring the next call.
fn outdated(roles: &Roles) -> Vec<(Box<str>, Value)> {
    let mut outdated = Vec::new();
    for (name, role) in roles {
        let Some(selectors) = role["aggregationRule"]["clusterRoleSelectors"].as_array() else { continue };
        let rules = union(roles, name, selectors);
        let current = role["rules"].as_array().map_or(&[][..], Vec::as_slice);
        if current != rules {
            let mut wanted = role.clone();
            wanted["rules"] = rules.into();
            outdated.push((name.clone(), wanted));
        }
    }
    outdated
}

fn union(roles: &Roles, own: &str, selectors: &[Value]) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let selector = match Selector::from_label_selector(Some(selector)) {
            Ok(selector) => selector,
            Err(error) => {
                tracing::warn!(role = own, %error, "an aggregation selector selects nothing");
                continue;
            }
        };
        let selected = roles
            .iter()
            .filter(|(name, role)| ***name != *own && selector.matches(&role["metadata"]["labels"]));
        for rule in selected.flat_map(|(_, role)| role["rules"].as_array().into_iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_of_selected_roles_are_joined_once() {
        let rule = |resource: &str| json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
        let select = |label: &str| json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        let mut roles: Roles = [
            ("view", json!({"metadata": {"labels": {"to-edit": "true"}}, "aggregationRule": select("to-view"), "rules": null})),
            ("edit", json!({"metadata": {"labels": {}}, "aggregationRule": select("to-edit"), "rules": null})),
            ("a", json!({"metadata": {"labels": {"to-view": "true"}}, "rules": [rule("pods")]})),
            ("b", json!({"metadata": {"labels": {"to-view": "true", "to-edit": "true"}}, "rules": [rule("pods"), rule("nodes")]})),
            ("c", json!({"metadata": {}, "rules": [rule("secrets")]})),
        ]
        .into_iter()
        .map(|(name, role)| (name.into(), role))
        .collect();
        for _ in 0..2 {
            let changed = outdated(&roles);
            roles.extend(changed);
        }
        assert_eq!(roles["view"]["rules"], json!([rule("pods"), rule("nodes")]));
        assert_eq!(roles["edit"]["rules"], json!([rule("pods"), rule("nodes")]));
        assert!(outdated(&roles).is_empty());
    }
}
