//! The priority levels and flow schemas that every cluster has.

use serde::Deserialize;
use serde_json::{Value, json};

use super::reconcile::{Item, Verdict};

const MANIFEST: &str = include_str!("../../../manifests/bootstrap/flow-control.yaml");
const API: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
/// Set to "false" by those who want to keep their own version.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    priority_levels: Vec<Named>,
    flow_schemas: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    spec: Value,
}

fn manifest() -> Manifest {
    serde_yaml::from_str(MANIFEST).expect("the manifest is part of the program, and a test reads it")
}

pub(super) fn items() -> Vec<Item> {
    let manifest = manifest();
    let item = |kind: &'static str, plural: &'static str| {
        move |Named { name, spec }| Item {
            collection: format!("{API}/{plural}"),
            object: json!({
                "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}},
                "spec": spec,
            }),
            exists: reconcile,
        }
    };
    let levels = item("PriorityLevelConfiguration", "prioritylevelconfigurations");
    let schemas = item("FlowSchema", "flowschemas");
    manifest
        .priority_levels
        .into_iter()
        .map(levels)
        .chain(manifest.flow_schemas.into_iter().map(schemas))
        .collect()
}

/// The spec is put back unless its owner said otherwise. Fields that the server defaulted do not count.
fn reconcile(existing: &Value, wanted: &Value) -> Verdict {
    let annotation = &existing["metadata"]["annotations"][AUTOUPDATE];
    if annotation == "false" || (annotation == "true" && contains(&existing["spec"], &wanted["spec"])) {
        return Verdict::Leave;
    }
    let mut object = existing.clone();
    object["spec"] = wanted["spec"].clone();
    object["metadata"]["annotations"][AUTOUPDATE] = "true".into();
    Verdict::Update(object)
}

fn contains(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| actual.get(key).is_some_and(|actual| contains(actual, value)))
        }
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len()
                && actual.iter().zip(wanted).all(|(actual, wanted)| contains(actual, wanted))
        }
        _ => actual == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_specs_are_put_back_unless_their_owner_objects() {
        let items = items();
        assert_eq!(items.len(), 8 + 11);
        let wanted = &items[2].object;
        let mut stored = wanted.clone();
        stored["spec"]["limited"]["borrowingLimitPercent"] = 0.into();
        assert!(matches!(reconcile(&stored, wanted), Verdict::Leave), "defaulted fields are no change");
        stored["spec"]["limited"]["nominalConcurrencyShares"] = 1.into();
        assert!(matches!(reconcile(&stored, wanted), Verdict::Update(_)));
        stored["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert!(matches!(reconcile(&stored, wanted), Verdict::Leave));
    }
}
