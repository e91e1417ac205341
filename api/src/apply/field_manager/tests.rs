//! What ownership looks like after writes, as clients see it.

use serde_json::json;

use super::*;

struct Kind {
    gvk: GroupVersionKind,
    of: TypeRef,
    converter: OneVersion,
    reset: ResetFields,
}

impl Kind {
    fn deployment() -> Self {
        let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
        let of = crate::schema::by_name("io.k8s.api.apps.v1.Deployment").expect("deployments are known");
        let converter = OneVersion { api_version: gvk.api_version(), of: of.clone() };
        let reset = ResetFields::none().with("apps/v1", Filter::Except(Set::of_fields(&[&["status"]])));
        Self { gvk, of, converter, reset }
    }

    fn manager(&self) -> FieldManager<'_> {
        FieldManager {
            gvk: &self.gvk,
            of: &self.of,
            converter: &self.converter,
            subresource: "",
            reset: &self.reset,
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn fields_of<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().expect("managed fields");
    let entry = entries.iter().find(|entry| entry["manager"] == manager);
    entry.map_or(&Value::Null, |entry| &entry["fieldsV1"])
}

/// As stored: with a uid.
fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = json!("u");
    object
}

#[test]
fn applying_owns_what_is_applied_and_nothing_more() {
    let kind = Kind::deployment();
    let config = deployment(json!({
        "replicas": 1,
        "template": {"spec": {"containers": [{"name": "web", "image": "a", "ports": [{"containerPort": 80}]}]}},
    }));
    let object = kind.manager().apply(None, &config, "me", false, at(7)).expect("applied");
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "time": "1970-01-01T00:00:07Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"web\"}": {
                    ".": {}, "f:name": {}, "f:image": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                },
            }}}}},
        }])
    );
}

#[test]
fn creating_owns_fields_as_upstream_does() {
    let kind = Kind::deployment();
    let mut object = deployment(json!({"replicas": 1, "template": {"metadata": {"labels": {"app": "web"}}}}));
    kind.manager().update(None, &mut object, "kubectl", at(1)).expect("valid");
    assert_eq!(
        fields_of(&object, "kubectl"),
        &json!({"f:spec": {"f:replicas": {}, "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}}})
    );
    assert_eq!(object["metadata"]["managedFields"][0]["operation"], "Update");
}

#[test]
fn a_change_of_anothers_field_conflicts_until_forced() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let first = manager.apply(None, &deployment(json!({"replicas": 1, "paused": true})), "a", false, at(1));
    let live = stored(first.expect("applied"));
    let wanted = deployment(json!({"replicas": 2}));
    let refused = manager.apply(Some(&live), &wanted, "b", false, at(2));
    let ApplyError::Conflict { message, causes } = refused.expect_err("a owns replicas") else {
        panic!("no conflict");
    };
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    assert_eq!(causes[0].field, ".spec.replicas");
    assert_eq!(causes[0].message, "conflict with \"a\"");
    let forced = manager.apply(Some(&live), &wanted, "b", true, at(2)).expect("forced");
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(fields_of(&forced, "a"), &json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(fields_of(&forced, "b"), &json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn conflicts_with_updates_name_their_version() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let mut live = deployment(json!({"replicas": 1, "paused": true}));
    manager.update(None, &mut live, "hand", at(1)).expect("valid");
    let live = stored(live);
    let wanted = deployment(json!({"replicas": 2, "paused": false}));
    let refused = manager.apply(Some(&live), &wanted, "b", false, at(2));
    assert_eq!(
        refused.expect_err("hand owns both").to_string(),
        "Apply failed with 2 conflicts: conflicts with \"hand\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
}

#[test]
fn the_same_value_is_shared() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let config = deployment(json!({"replicas": 1}));
    let live = stored(manager.apply(None, &config, "a", false, at(1)).expect("applied"));
    let shared = manager.apply(Some(&live), &config, "b", false, at(2)).expect("no conflict");
    assert_eq!(fields_of(&shared, "a"), fields_of(&shared, "b"));
    let dropped =
        manager.apply(Some(&stored(shared)), &deployment(json!({})), "a", false, at(3)).expect("applied");
    assert_eq!(dropped["spec"]["replicas"], 1, "b still wants it");
}

#[test]
fn what_is_not_applied_any_more_is_removed() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let containers = |list: Value| deployment(json!({"template": {"spec": {"containers": list}}}));
    let both = containers(json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}]));
    let mut live = manager.apply(None, &both, "me", false, at(1)).expect("applied");
    // What others added stays.
    live["spec"]["template"]["spec"]["containers"][0]["workingDir"] = json!("/");
    let one = containers(json!([{"name": "a", "image": "1"}]));
    let result = manager.apply(Some(&stored(live)), &one, "me", false, at(2)).expect("applied");
    assert_eq!(
        result["spec"]["template"]["spec"]["containers"],
        json!([{"name": "a", "image": "1", "workingDir": "/"}])
    );
}

#[test]
fn an_update_takes_what_it_changes_and_a_no_op_takes_nothing() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let live = stored(
        manager
            .apply(None, &deployment(json!({"replicas": 1, "paused": true})), "a", false, at(1))
            .expect("applied"),
    );
    let mut same = live.clone();
    manager.update(Some(&live), &mut same, "hand", at(2)).expect("valid");
    assert_eq!(same, live);
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(5);
    manager.update(Some(&live), &mut scaled, "hand", at(3)).expect("valid");
    assert_eq!(fields_of(&scaled, "a"), &json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(fields_of(&scaled, "hand"), &json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn what_the_strategy_resets_is_not_owned() {
    let kind = Kind::deployment();
    let mut config = deployment(json!({"replicas": 1}));
    config["status"] = json!({"replicas": 3});
    let object = kind.manager().apply(None, &config, "me", false, at(1)).expect("applied");
    assert_eq!(fields_of(&object, "me"), &json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn objects_from_before_apply_get_a_first_manager() {
    let kind = Kind::deployment();
    let live = stored(deployment(json!({"replicas": 1})));
    let refused = kind.manager().apply(Some(&live), &deployment(json!({"replicas": 2})), "me", false, at(1));
    assert!(refused.is_err_and(|error| {
        error.to_string().contains("\"before-first-apply\" using apps/v1: .spec.replicas")
    }));
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let mut live = deployment(json!({"replicas": 1}));
    live["metadata"]["annotations"] = json!({LAST_APPLIED: deployment(json!({"replicas": 1})).to_string()});
    manager.update(None, &mut live, "kubectl-client-side-apply", at(1)).expect("valid");
    let live = stored(live);
    let wanted = deployment(json!({"replicas": 2}));
    assert!(manager.apply(Some(&live), &wanted, "other", false, at(2)).is_err());
    let object = manager.apply(Some(&live), &wanted, "kubectl", false, at(2)).expect("no conflict");
    assert_eq!(object["spec"]["replicas"], 2);
    let annotation = object["metadata"]["annotations"][LAST_APPLIED].as_str().expect("kept up to date");
    assert!(annotation.contains("\"replicas\":2") && annotation.ends_with('\n'));
}

#[test]
fn patches_that_do_not_fit_are_refused_in_upstreams_words() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let error =
        |config: &Value| manager.apply(None, config, "me", false, at(1)).expect_err("refused").to_string();
    let prefix = "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): ";
    assert_eq!(error(&deployment(json!({"x": 1}))), format!("{prefix}.spec.x: field not declared in schema"));
    assert_eq!(
        error(&deployment(json!({"replicas": "1"}))),
        format!("{prefix}.spec.replicas: expected numeric (int or float), got string")
    );
    let twice = json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}});
    assert_eq!(
        error(&deployment(twice)),
        format!("{prefix}.spec.template.spec.containers: duplicate entries for key [name=\"a\"]")
    );
    let mut wrong = deployment(json!({}));
    wrong["kind"] = json!("Pod");
    assert_eq!(error(&wrong), "invalid object type: apps/v1, Kind=Pod");
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(error(&managed), "metadata.managedFields must be nil");
}

#[test]
fn the_order_of_applied_items_wins_and_others_keep_their_place() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let containers = |names: &[&str]| {
        let list: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        deployment(json!({"template": {"spec": {"containers": list}}}))
    };
    let mut live = containers(&["a", "b", "c"]);
    manager.update(None, &mut live, "hand", at(1)).expect("valid");
    let object = manager
        .apply(Some(&stored(live)), &containers(&["c", "n", "a"]), "me", false, at(2))
        .expect("applied");
    let names: Vec<&str> = object["spec"]["template"]["spec"]["containers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|container| container["name"].as_str())
        .collect();
    assert_eq!(names, ["b", "c", "n", "a"]);
}

#[test]
fn managed_fields_can_be_reset_by_an_update() {
    let kind = Kind::deployment();
    let manager = kind.manager();
    let live =
        stored(manager.apply(None, &deployment(json!({"replicas": 1})), "a", false, at(1)).expect("applied"));
    let mut reset = live.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    manager.update(Some(&live), &mut reset, "hand", at(2)).expect("valid");
    assert!(reset["metadata"].get("managedFields").is_none());
    let mut silent = live.clone();
    silent["metadata"].as_object_mut().expect("an object").remove("managedFields");
    manager.update(Some(&live), &mut silent, "hand", at(2)).expect("valid");
    assert_eq!(silent, live, "clients that do not know managed fields do not lose them");
}
