use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::authz::ResourceTarget;
use crate::authz::follow::Index;
use crate::objects::Stored;

fn stored(namespace: &str, name: &str, json: Value) -> Stored {
    Stored { namespace: namespace.into(), name: name.into(), json: Bytes::from(json.to_string()) }
}

fn reader() -> Value {
    json!({"rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]})
}

fn binding(kind: &str, role: &str, subjects: Value) -> Value {
    json!({"roleRef": {"kind": kind, "name": role}, "subjects": subjects})
}

fn ask(rbac: &Rbac, user: &UserInfo, namespace: &str) -> Decision {
    let target = ResourceTarget { resource: "pods", namespace, ..ResourceTarget::default() };
    rbac.state.read().decide(&Attributes { user, verb: "list", target: Target::Resource(target) })
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo::new(name, groups.iter().copied())
}

#[test]
fn bindings_reach_their_subjects_in_their_namespace() {
    let rbac = Rbac::default();
    ClusterRoles(&rbac).set(&stored("", "reader", reader()));
    NamespacedRoles(&rbac).set(&stored("a", "local", reader()));
    let bob = json!([{"kind": "User", "name": "bob"}, {"kind": "Group", "name": "devs"}]);
    NamespacedBindings(&rbac).set(&stored("a", "b1", binding("Role", "local", bob)));
    let account = json!([{"kind": "ServiceAccount", "name": "robot"}]);
    NamespacedBindings(&rbac).set(&stored("b", "b2", binding("ClusterRole", "reader", account)));
    let admins = json!([{"kind": "Group", "name": "admins"}]);
    ClusterBindings(&rbac).set(&stored("", "b3", binding("ClusterRole", "reader", admins)));

    let robot = user("system:serviceaccount:b:robot", &[]);
    let table = [
        (user("bob", &[]), "a", true),
        (user("bob", &[]), "b", false),
        (user("bob", &[]), "", false),
        (user("eve", &["devs"]), "a", true),
        (user("eve", &[]), "a", false),
        (robot.clone(), "b", true),
        (robot, "a", false),
        (user("ann", &["admins"]), "", true),
        (user("ann", &["admins"]), "b", true),
    ];
    for (user, namespace, allowed) in table {
        assert_eq!(ask(&rbac, &user, namespace).is_allowed(), allowed, "{} in {namespace:?}", user.name);
    }
    assert_eq!(
        ask(&rbac, &user("eve", &["devs"]), "a").reason(),
        r#"RBAC: allowed by RoleBinding "b1/a" of Role "local" to Group "devs""#
    );
}

#[test]
fn changed_and_removed_bindings_stop_granting() {
    let rbac = Rbac::default();
    ClusterRoles(&rbac).set(&stored("", "reader", reader()));
    let to = |name: &str| binding("ClusterRole", "reader", json!([{"kind": "User", "name": name}]));
    ClusterBindings(&rbac).set(&stored("", "b", to("bob")));
    ClusterBindings(&rbac).set(&stored("", "b", to("eve")));
    assert!(!ask(&rbac, &user("bob", &[]), "").is_allowed());
    assert!(ask(&rbac, &user("eve", &[]), "").is_allowed());
    ClusterBindings(&rbac).remove("", "b");
    assert!(!ask(&rbac, &user("eve", &[]), "").is_allowed());
    assert!(rbac.state.read().bindings.is_empty(), "nothing is kept for subjects without bindings");
}

#[test]
fn a_binding_to_a_missing_role_is_named_in_the_refusal() {
    let rbac = Rbac::default();
    let bob = json!([{"kind": "User", "name": "bob"}]);
    ClusterBindings(&rbac).set(&stored("", "b", binding("ClusterRole", "nope", bob)));
    assert_eq!(
        ask(&rbac, &user("bob", &[]), "a"),
        Decision::NoOpinion(r#"RBAC: clusterrole.rbac.authorization.k8s.io "nope" not found"#.into())
    );
}
