//! The smallest strategic merge patch that turns one pod status into another.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists the API server merges by a key; all others are replaced whole.
const KEYED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// `None` when nothing differs. The pod's uid is in the patch, so that it cannot hit a successor of the same name.
pub fn between(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (Ok(Value::Object(old)), Ok(Value::Object(new))) =
        (serde_json::to_value(old), serde_json::to_value(new))
    else {
        return None;
    };
    let mut patch = Map::new();
    for (field, value) in &new {
        if old.get(field) == Some(value) {
            continue;
        }
        match KEYED.iter().find(|(name, _)| name == field) {
            Some((_, key)) => keyed(&mut patch, field, key, old.get(field), value),
            None => {
                patch.insert(field.clone(), value.clone());
            }
        }
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": patch}))
}

fn keyed(patch: &mut Map<String, Value>, field: &str, key: &str, old: Option<&Value>, new: &Value) {
    let empty = Vec::new();
    let old = old.and_then(Value::as_array).unwrap_or(&empty);
    let new = new.as_array().unwrap_or(&empty);
    let find =
        |list: &[Value], wanted: &Value| list.iter().find(|item| item.get(key) == Some(wanted)).cloned();
    let mut items = Vec::new();
    for item in new {
        let name = item.get(key).cloned().unwrap_or_default();
        let before = find(old, &name);
        if before.as_ref() != Some(item) {
            items.push(changed(key, before, item));
        }
    }
    for item in old {
        let name = item.get(key).cloned().unwrap_or_default();
        if find(new, &name).is_none() {
            items.push(json!({key: name, "$patch": "delete"}));
        }
    }
    let order: Vec<Value> =
        new.iter().filter_map(|item| item.get(key)).map(|name| json!({key: name})).collect();
    patch.insert(format!("$setElementOrder/{field}"), Value::Array(order));
    if !items.is_empty() {
        patch.insert(field.to_owned(), Value::Array(items));
    }
}

/// An element with what changed in it: merged by key, so removed fields are said explicitly.
fn changed(key: &str, before: Option<Value>, after: &Value) -> Value {
    let (Some(Value::Object(before)), Value::Object(after)) = (before, after) else { return after.clone() };
    let mut item = Map::new();
    for (field, value) in after {
        if field == key || before.get(field) != Some(value) {
            item.insert(field.clone(), value.clone());
        }
    }
    for field in before.keys().filter(|field| !after.contains_key(*field)) {
        item.insert(field.clone(), Value::Null);
    }
    Value::Object(item)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodCondition;

    use super::*;

    fn condition(kind: &str, status: &str, reason: Option<&str>) -> PodCondition {
        PodCondition {
            type_: kind.into(),
            status: status.into(),
            reason: reason.map(Into::into),
            ..PodCondition::default()
        }
    }

    #[test]
    fn equal_statuses_need_no_patch() {
        let status = PodStatus { phase: Some("Running".into()), ..PodStatus::default() };
        assert_eq!(between("u", &status, &status), None);
    }

    #[test]
    fn only_what_changed_is_sent_and_what_went_is_nulled() {
        let old = PodStatus {
            phase: Some("Pending".into()),
            message: Some("m".into()),
            conditions: Some(vec![condition("A", "True", None), condition("B", "False", Some("R"))]),
            ..PodStatus::default()
        };
        let new = PodStatus {
            phase: Some("Running".into()),
            conditions: Some(vec![condition("A", "True", None), condition("B", "True", None)]),
            ..PodStatus::default()
        };
        let patch = between("u", &old, &new).expect("they differ");
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running",
                "message": null,
                "$setElementOrder/conditions": [{"type": "A"}, {"type": "B"}],
                "conditions": [{"type": "B", "status": "True", "reason": null}],
            }})
        );
    }
}
