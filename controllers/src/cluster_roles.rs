//! ClusterRoles whose rules are the sum of other ClusterRoles.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::{
    api::rbac::v1::{ClusterRole, PolicyRule},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use knarr_client::{
    Action, Api, Client, ObjectKey, Reconcile, SharedInformer, error::is_not_found, ownership::selector,
};
use kube::{
    api::{Patch, PatchParams},
    core::SelectorExt,
};
use serde_json::json;

use crate::{
    Context,
    error::{Error, Step},
};

const WORKERS: usize = 5;
const MANAGER: &str = "clusterrole-aggregation-controller";

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("ClusterRoleAggregator");
    let roles = wiring.root::<ClusterRole>();
    let known = roles.clone();
    // Any role may be part of any sum.
    wiring.on(&roles, move |_| {
        let sums = known.filter(|role| role.aggregation_rule.is_some());
        sums.into_iter().map(|role| ObjectKey::of(&*role))
    });
    wiring.run(WORKERS, Sync { roles, client: context.client })
}

struct Sync {
    roles: SharedInformer<ClusterRole>,
    client: Client,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(role) = self.roles.get_key(key) else { return Ok(Action::Done) };
        let Some(rule) = &role.aggregation_rule else { return Ok(Action::Done) };
        let selectors = rule.cluster_role_selectors.as_deref().unwrap_or_default();
        let rules = sum(selectors, &self.roles.list(), &key.name)?;
        if rules == role.rules.clone().unwrap_or_default() {
            return Ok(Action::Done);
        }
        let applied = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": &*key.name },
            "rules": rules,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let api = Api::<ClusterRole>::all(self.client.clone());
        match api.patch(&key.name, &parameters, &Patch::Apply(applied)).await {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step("apply cluster role", &key.name)?),
        }
        Ok(Action::Done)
    }
}

/// The rules of all roles that any selector matches, in the order of their names, each rule once.
fn sum(
    selectors: &[LabelSelector],
    roles: &[Arc<ClusterRole>],
    own_name: &str,
) -> Result<Vec<PolicyRule>, Error> {
    let mut rules = Vec::new();
    for labels in selectors {
        let selector = selector(labels)?;
        let matching = roles.iter().filter(|role| {
            role.metadata.name.as_deref() != Some(own_name)
                && selector.matches(role.metadata.labels.as_ref().unwrap_or(&Default::default()))
        });
        for rule in matching.flat_map(|role| role.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_summed_once_and_not_from_the_role_itself() {
        let rule = |verb: &str| PolicyRule { verbs: vec![verb.to_owned()], ..PolicyRule::default() };
        let role = |name: &str, labelled: bool, rules: &[&str]| {
            let mut role =
                ClusterRole { rules: Some(rules.iter().map(|r| rule(r)).collect()), ..Default::default() };
            role.metadata.name = Some(name.to_owned());
            role.metadata.labels = labelled.then(|| [("sum".to_owned(), "yes".to_owned())].into());
            Arc::new(role)
        };
        let wanted = LabelSelector {
            match_labels: Some([("sum".to_owned(), "yes".to_owned())].into()),
            ..LabelSelector::default()
        };
        let roles =
            [role("a", true, &["get", "list"]), role("b", true, &["get"]), role("c", false, &["delete"])];
        assert_eq!(sum(std::slice::from_ref(&wanted), &roles, "x").unwrap(), [rule("get"), rule("list")]);
        assert_eq!(sum(&[wanted], &roles, "a").unwrap(), [rule("get")]);
    }
}
