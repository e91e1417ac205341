//! The defaults that are declared at fields themselves. Those that upstream writes as code belong to the resources'
//! strategies, which run this first or last as upstream does for their kind.

use serde_json::Value;

use crate::schema::{Field, Shape, Type};

/// Fills in the declared defaults of every struct that is there.
pub fn apply(object: &mut Value, of: &Type) {
    let Value::Object(map) = object else { return };
    for field in &of.fields {
        if let Some(default) = field.default.as_ref().filter(|default| replaces_unset(field, default))
            && map.get(field.name.as_ref()).is_none_or(Value::is_null)
        {
            map.insert(field.name.to_string(), default.clone());
        }
        if let Some(value) = map.get_mut(field.name.as_ref()) {
            descend(value, &field.shape);
        }
    }
}

fn descend(value: &mut Value, shape: &Shape) {
    match (shape, value) {
        (Shape::Struct(of), value) => apply(value, of),
        (Shape::List(list), Value::Array(items)) if has_structs(&list.item) => {
            items.iter_mut().for_each(|item| descend(item, &list.item));
        }
        (Shape::Map(map), Value::Object(entries)) if has_structs(&map.value) => {
            entries.values_mut().for_each(|value| descend(value, &map.value));
        }
        _ => {}
    }
}

fn has_structs(shape: &Shape) -> bool {
    match shape {
        Shape::Struct(_) => true,
        Shape::List(list) => has_structs(&list.item),
        Shape::Map(map) => has_structs(&map.value),
        _ => false,
    }
}

/// The zero value of a plain field is what it has anyway, and is left out by the encoder.
fn replaces_unset(field: &Field, default: &Value) -> bool {
    field.pointer || !matches!(default, Value::String(text) if text.is_empty()) && default.as_i64() != Some(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    #[test]
    fn declared_defaults_are_filled_in_where_nothing_is_set() {
        let pod = schema::by_gvk("", "v1", "Pod").expect("pod");
        let mut object = json!({"spec": {
            "containers": [{"name": "c", "ports": [{"containerPort": 1}, {"containerPort": 2, "protocol": "UDP"}]}],
            "volumes": [{"name": "v", "azureDisk": {"diskName": "d", "diskURI": "u"}, "configMap": {}}],
        }});
        apply(&mut object, &pod);
        assert_eq!(object["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
        assert_eq!(object["spec"]["containers"][0]["ports"][1]["protocol"], "UDP");
        assert_eq!(object["spec"]["volumes"][0]["azureDisk"]["fsType"], "ext4");
        assert_eq!(object["spec"]["volumes"][0]["azureDisk"]["readOnly"], false);
        assert_eq!(object["spec"]["volumes"][0]["configMap"], json!({}));
    }
}
