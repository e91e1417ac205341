//! Filling in defaults: what an unset field is, for the two kinds of fields there are, and amounts of resources.

use knarr_api::quantity::Quantity;
use serde_json::{Map, Value};

/// Sets a field that is absent. An empty string is a value: the field is a pointer in Go.
pub fn nil(of: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(fields) = of.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), value.into());
    }
}

/// Sets a field that is absent or has its zero value: empty text, zero, nothing in it.
pub fn zero(of: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(fields) = of.as_object_mut()
        && fields.get(field).is_none_or(is_zero)
    {
        fields.insert(field.to_owned(), value.into());
    }
}

pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// The items of a list that may be absent.
pub fn items<'a>(of: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    of.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Rounds amounts up to thousandths, which is as fine as resources are counted.
pub fn round_up(of: &mut Value, field: &str) {
    const MILLI: i32 = -3;
    for amount in of.get_mut(field).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let fine = amount.as_str().is_some_and(|text| text.contains(['n', 'u', '.', 'e']));
        if let Some(mut quantity) = fine.then(|| Quantity::from_json(amount).ok()).flatten()
            && !quantity.round_up(MILLI)
        {
            *amount = quantity.to_string().into();
        }
    }
}

/// Copies the entries of one map of a struct into another where they are missing; the other is made if need be.
pub fn entries(of: &mut Value, to: &str, from: &str) {
    let Some(source) = of.get(from).and_then(Value::as_object).cloned() else { return };
    if !of.get(to).is_some_and(Value::is_object) {
        of[to] = Value::Object(Map::new());
    }
    if let Some(target) = of[to].as_object_mut() {
        for (key, value) in source {
            target.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_text_is_unset_only_where_go_has_no_pointer() {
        let mut object = json!({"a": "", "b": ""});
        nil(&mut object, "a", "x");
        zero(&mut object, "b", "x");
        assert_eq!(object, json!({"a": "", "b": "x"}));
    }

    #[test]
    fn amounts_finer_than_a_thousandth_are_rounded_up() {
        let mut object = json!({"limits": {"cpu": "100u", "memory": "1Gi"}});
        round_up(&mut object, "limits");
        assert_eq!(object, json!({"limits": {"cpu": "1m", "memory": "1Gi"}}));
    }
}
