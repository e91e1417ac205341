//! Reading what upstream's clients read and our types do not.
//!
//! Go knows no required fields: it reads `"lastTransitionTime": null` as its zero time, and a condition without a
//! reason as one whose reason is empty. Anybody who may write a status may write such a condition, and an informer
//! that could not read it would see nothing of the whole resource any more, a controller not replace the object. So what does not fit is brought into form
//! and read again; what fits costs nothing.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Go's zero time.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
/// What `metav1.Condition` has without fail.
const OF_A_CONDITION: [(&str, &str); 5] =
    [("type", ""), ("status", ""), ("reason", ""), ("message", ""), ("lastTransitionTime", ZERO_TIME)];

/// Reads an object or a list of them.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(json).or_else(|error| {
        let mut value = serde_json::from_slice(json)?;
        complete(&mut value);
        // The first complaint is about what was sent.
        serde_json::from_value(value).map_err(|_| error)
    })
}

fn complete(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            if let Some(Value::Array(conditions)) = fields.get_mut("conditions") {
                conditions.iter_mut().filter_map(Value::as_object_mut).for_each(complete_condition);
            }
            fields.values_mut().for_each(complete);
        }
        Value::Array(items) => items.iter_mut().for_each(complete),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn complete_condition(condition: &mut Map<String, Value>) {
    for (field, zero) in OF_A_CONDITION {
        if condition.get(field).is_none_or(Value::is_null) {
            condition.insert(field.to_owned(), zero.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_that_say_little_are_read_as_go_reads_them() {
        for condition in [
            json!({"type": "T", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": null}),
            json!({"type": "T", "status": "True"}),
        ] {
            let service = json!({"metadata": {"name": "s", "deletionTimestamp": null},
                "status": {"conditions": [condition], "loadBalancer": {}}});
            let read: Service = read(service.to_string().as_bytes()).expect("readable");
            assert_eq!(read.metadata.deletion_timestamp, None);
            let status = read.status.expect("a status");
            assert_eq!(status.conditions.expect("conditions")[0].type_, "T");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_as_it_was_sent() {
        let error = read::<Service>(br#"{"metadata": {"name": 7}}"#).expect_err("unreadable");
        assert!(error.to_string().contains("integer `7`"), "{error}");
    }
}
