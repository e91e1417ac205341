//! The bootstrap roles and bindings: permissions that are missing are put back, what was added stays.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reconcile::{Item, Verdict, merge_missing};
use crate::authz::{Rule, covers};

const CLUSTER_ROLES: &str = include_str!("../../../manifests/rbac/cluster-roles.yaml");
const CONTROLLER_ROLES: &str = include_str!("../../../manifests/rbac/controller-roles.yaml");
const CLUSTER_ROLE_BINDINGS: &str = include_str!("../../../manifests/rbac/cluster-role-bindings.yaml");
const ROLES: &str = include_str!("../../../manifests/rbac/roles.yaml");
const ROLE_BINDINGS: &str = include_str!("../../../manifests/rbac/role-bindings.yaml");

const API: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";
const CONTROLLER_PREFIX: &str = "system:controller:";
/// Set to "false" by those who want to keep their own version of a bootstrap role.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Map<String, Value>,
    /// The labels of the roles whose rules this one takes over.
    #[serde(default)]
    aggregate: Vec<Value>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Binding {
    name: String,
    #[serde(default)]
    namespace: String,
    role: String,
    #[serde(default = "cluster_role")]
    role_kind: String,
    #[serde(default)]
    subjects: Option<Vec<Value>>,
}

fn cluster_role() -> String {
    "ClusterRole".to_owned()
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<T> {
    serde_yaml::from_str(text).expect("the manifests are part of the program, and a test reads them")
}

/// What every node may do.
pub fn node_rules() -> Vec<Rule> {
    let roles: Vec<Role> = parse(CLUSTER_ROLES);
    roles.into_iter().find(|role| role.name == "system:node").map(|role| role.rules).unwrap_or_default()
}

pub(super) fn items() -> Vec<Item> {
    let controllers: Vec<Role> = parse(CONTROLLER_ROLES);
    let of_controllers: Vec<Binding> = controllers.iter().filter_map(controller_binding).collect();
    let roles = parse(CLUSTER_ROLES).into_iter().chain(controllers).chain(parse(ROLES));
    let bindings = parse(CLUSTER_ROLE_BINDINGS).into_iter().chain(of_controllers).chain(parse(ROLE_BINDINGS));
    roles.map(role_item).chain(bindings.map(binding_item)).collect()
}

/// A controller runs as the service account of its name.
fn controller_binding(role: &Role) -> Option<Binding> {
    let account = role.name.strip_prefix(CONTROLLER_PREFIX)?;
    Some(Binding {
        name: role.name.clone(),
        namespace: String::new(),
        role: role.name.clone(),
        role_kind: cluster_role(),
        subjects: Some(vec![json!({"kind": "ServiceAccount", "name": account, "namespace": "kube-system"})]),
    })
}

fn metadata(name: &str, namespace: &str, mut labels: Map<String, Value>) -> Value {
    labels.insert("kubernetes.io/bootstrapping".into(), "rbac-defaults".into());
    let mut metadata = json!({"name": name, "labels": labels, "annotations": {AUTOUPDATE: "true"}});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn collection(namespace: &str, cluster: &str, namespaced: &str) -> String {
    match namespace {
        "" => format!("{API}/{cluster}"),
        namespace => format!("{API}/namespaces/{namespace}/{namespaced}"),
    }
}

fn role_item(role: Role) -> Item {
    let Role { name, namespace, labels, aggregate, rules } = role;
    let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(&name, &namespace, labels),
        "rules": rules,
    });
    if !aggregate.is_empty() {
        let selectors: Vec<Value> = aggregate.iter().map(|labels| json!({"matchLabels": labels})).collect();
        object["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        object["rules"] = Value::Null;
    }
    Item { collection: collection(&namespace, "clusterroles", "roles"), object, exists: reconcile_role }
}

fn binding_item(binding: Binding) -> Item {
    let Binding { name, namespace, role, role_kind, subjects } = binding;
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let mut subjects = subjects.unwrap_or_default();
    for subject in &mut subjects {
        if subject["kind"] != "ServiceAccount" {
            subject["apiGroup"] = GROUP.into();
        }
    }
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(&name, &namespace, Map::new()),
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    });
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    let collection = collection(&namespace, "clusterrolebindings", "rolebindings");
    Item { collection, object, exists: reconcile_binding }
}

fn is_protected(existing: &Value) -> bool {
    existing["metadata"]["annotations"][AUTOUPDATE] == "false"
}

fn reconcile_role(existing: &Value, wanted: &Value) -> Verdict {
    if is_protected(existing) {
        return Verdict::Leave;
    }
    let mut object = existing.clone();
    let mut changed = merge_missing(&mut object, wanted, "labels");
    changed |= merge_missing(&mut object, wanted, "annotations");
    if wanted["aggregationRule"].is_object() {
        // The rules are computed from other roles; only the selectors are ours.
        let wanted = &wanted["aggregationRule"];
        changed |= add_missing(&mut object["aggregationRule"], wanted, "clusterRoleSelectors");
    } else {
        let missing = covers(&rules(existing), &rules(wanted));
        if !missing.is_empty() {
            let mut all = existing["rules"].as_array().cloned().unwrap_or_default();
            all.extend(missing.iter().map(|rule| json!(rule)));
            object["rules"] = all.into();
            changed = true;
        }
    }
    if changed { Verdict::Update(object) } else { Verdict::Leave }
}

fn rules(role: &Value) -> Vec<Rule> {
    role["rules"].as_array().into_iter().flatten().filter_map(|rule| Rule::deserialize(rule).ok()).collect()
}

fn reconcile_binding(existing: &Value, wanted: &Value) -> Verdict {
    if is_protected(existing) {
        return Verdict::Leave;
    }
    // A binding's role cannot change, so one that points elsewhere is replaced.
    if existing["roleRef"] != wanted["roleRef"] {
        return Verdict::Recreate;
    }
    let mut object = existing.clone();
    let mut changed = merge_missing(&mut object, wanted, "labels");
    changed |= merge_missing(&mut object, wanted, "annotations");
    changed |= add_missing(&mut object, wanted, "subjects");
    if changed { Verdict::Update(object) } else { Verdict::Leave }
}

/// Adds the wanted items of a list that are not there yet.
fn add_missing(holder: &mut Value, wanted: &Value, list: &str) -> bool {
    let mut all = holder[list].as_array().cloned().unwrap_or_default();
    let before = all.len();
    for item in wanted[list].as_array().into_iter().flatten() {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    if all.len() == before {
        return false;
    }
    holder[list] = all.into();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_are_readable_and_complete() {
        let items = items();
        let find = |name: &str, kind: &str| {
            items.iter().find(|i| i.object["metadata"]["name"] == name && i.object["kind"] == kind).unwrap()
        };
        assert_eq!(find("cluster-admin", "ClusterRole").object["rules"][0]["verbs"], json!(["*"]));
        let controller = find("system:controller:deployment-controller", "ClusterRoleBinding");
        assert_eq!(
            controller.object["subjects"],
            json!([{"kind": "ServiceAccount", "name": "deployment-controller", "namespace": "kube-system"}])
        );
        assert_eq!(
            find("system:controller:bootstrap-signer", "Role").collection,
            "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/roles"
        );
        assert!(items.len() > 130, "{}", items.len());
        assert!(!node_rules().is_empty());
    }

    #[test]
    fn missing_permissions_come_back_and_added_ones_stay() {
        let wanted = json!({"metadata": {"labels": {"l": "1"}}, "rules": [
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]});
        let existing = json!({"metadata": {"labels": {"l": "1"}}, "rules": [
            {"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}]});
        let Verdict::Update(updated) = reconcile_role(&existing, &wanted) else { panic!("not updated") };
        assert_eq!(updated["rules"][0], existing["rules"][0]);
        assert_eq!(updated["rules"][1], json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}));
        assert!(matches!(reconcile_role(&updated, &wanted), Verdict::Leave));
    }

    #[test]
    fn protected_roles_are_left_alone() {
        let wanted =
            json!({"metadata": {}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
        let existing = json!({"metadata": {"annotations": {AUTOUPDATE: "false"}}, "rules": []});
        assert!(matches!(reconcile_role(&existing, &wanted), Verdict::Leave));
    }

    #[test]
    fn a_binding_to_another_role_is_replaced() {
        let wanted = json!({"metadata": {}, "roleRef": {"name": "a"}, "subjects": []});
        let existing = json!({"metadata": {}, "roleRef": {"name": "b"}, "subjects": []});
        assert!(matches!(reconcile_binding(&existing, &wanted), Verdict::Recreate));
    }
}
