//! Tables of tests: a valid object, and what breaking it in one place makes the server say.

use knarr_api::field::ErrorList;
use knarr_api::{decode, defaults, schema};
use serde_json::Value;

use crate::registry::Strategy;

/// An object as it is when it comes to validation: decoded and with defaults.
pub fn completed(strategy: &dyn Strategy, object: &Value) -> Value {
    let text = |field: &str| object[field].as_str().expect("test objects name their kind").to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let of = schema::by_gvk(group, version, &kind).expect("test objects are of known kinds");
    let mut object = decode::normalize(object, &of, true).expect("test objects can be decoded");
    assert_eq!(object.strict_errors, Vec::<String>::new());
    defaults::apply(&mut object.value, &of);
    strategy.set_defaults(&mut object.value);
    object.value
}

/// Sets the place that a JSON pointer names; null removes it.
pub fn with(object: &Value, pointer: &str, value: &Value) -> Value {
    let mut changed = object.clone();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let mut at = &mut changed;
    for step in parent.split('/').skip(1) {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        };
    }
    match (field.parse::<usize>(), at) {
        (Ok(index), Value::Array(items)) => {
            items.truncate(index.max(items.len().min(index + 1)));
            if items.len() == index {
                items.push(value.clone());
            } else {
                items[index] = value.clone();
            }
        }
        (_, at) if value.is_null() => {
            at.as_object_mut().map(|fields| fields.remove(field));
        }
        (_, at) => at[field] = value.clone(),
    }
    changed
}

/// The valid object passes; each change of it is answered with the errors named, in their order.
pub fn check(
    strategy: &dyn Strategy,
    validate: impl Fn(&Value) -> ErrorList,
    valid: &Value,
    cases: &[(&str, Value, &str)],
) {
    let errors = validate(&completed(strategy, valid));
    assert_eq!(errors.to_string(), "", "the valid object");
    for (pointer, value, expected) in cases {
        let errors = validate(&completed(strategy, &with(valid, pointer, value)));
        assert_eq!(errors.to_string(), *expected, "{pointer} = {value}");
    }
}

/// Updates of the valid object: each change is answered with what the errors begin with; empty when it is fine.
pub fn check_updates(
    strategy: &dyn Strategy,
    validate: impl Fn(&Value, &Value) -> ErrorList,
    valid: &Value,
    cases: &[(&str, Value, &str)],
) {
    let old = completed(strategy, valid);
    assert_eq!(validate(&old, &old).to_string(), "", "no change");
    for (pointer, value, expected) in cases {
        let new = completed(strategy, &with(valid, pointer, value));
        let errors = validate(&new, &old).to_string();
        let fits = if expected.is_empty() { errors.is_empty() } else { errors.starts_with(expected) };
        assert!(fits, "{pointer} = {value}: {errors}");
    }
}
