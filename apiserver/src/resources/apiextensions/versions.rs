//! What a version says beside its schema: columns, subresources, fields to select by, its deprecation.

use knarr_api::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MAX_WARNING: usize = 256;
const MAX_SELECTABLE: usize = 8;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// Everything that is wrong with the version that stands at `path`.
pub fn check(path: &Path, version: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    deprecation(path, version, &mut errors);
    scale(&path.child("subresources"), version, &mut errors);
    for (at, column) in list(version, "additionalPrinterColumns") {
        column_of(&path.child("additionalPrinterColumns").index(at), column, &mut errors);
    }
    selectable(&path.child("selectableFields"), version, &mut errors);
    errors
}

fn deprecation(path: &Path, version: &Value, errors: &mut ErrorList) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let mut refuse =
        |why: String| errors.push(Error::invalid(&path.child("deprecationWarning"), warning, why));
    if version["deprecated"] != true {
        refuse("can only be set for deprecated versions".to_owned());
        return;
    }
    if warning.len() > MAX_WARNING {
        refuse(format!("must be <= {MAX_WARNING} characters long"));
    }
    if warning.is_empty() {
        refuse("must not be an empty string".to_owned());
    }
    if let Some(at) = warning.find(char::is_control) {
        refuse(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

/// A path with dots, below one of the roots (none: anywhere).
fn simple_path(path: &Path, value: &str, roots: &[&str], why: &str, errors: &mut ErrorList) {
    if !value.starts_with('.') {
        errors.push(Error::invalid(path, value, "must be a simple json path starting with ."));
    } else if !roots.is_empty() && !roots.iter().any(|root| value.starts_with(root)) {
        errors.push(Error::invalid(path, value, why));
    }
}

fn scale(path: &Path, version: &Value, errors: &mut ErrorList) {
    let Some(scale) = version.pointer("/subresources/scale").filter(|scale| scale.is_object()) else {
        return;
    };
    for (field, name, root) in [
        ("specReplicasPath", "scale.specReplicasPath", ".spec"),
        ("statusReplicasPath", "scale.statusReplicasPath", ".status"),
    ] {
        let (at, value) = (path.child(name), text(scale, field));
        if value.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let why = format!("should be a json path under {root}");
        simple_path(&at, value, &[&format!("{root}.")], &why, errors);
    }
    let selector = text(scale, "labelSelectorPath");
    if !selector.is_empty() {
        let why = "should be a json path under either .spec or .status";
        simple_path(&path.child("scale.labelSelectorPath"), selector, &[".spec.", ".status."], why, errors);
    }
}

fn column_of(path: &Path, column: &Value, errors: &mut ErrorList) {
    if text(column, "name").is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let (kind, format, source) = (text(column, "type"), text(column, "format"), text(column, "jsonPath"));
    let why = format!("must be one of {}", COLUMN_TYPES.join(","));
    match kind {
        "" => errors.push(Error::required(&path.child("type"), why)),
        kind if !COLUMN_TYPES.contains(&kind) => errors.push(Error::invalid(&path.child("type"), kind, why)),
        _ => {}
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(Error::invalid(&path.child("format"), format, why));
    }
    let at = path.child("JSONPath");
    match source {
        "" => errors.push(Error::required(&at, "")),
        source => simple_path(&at, source, &[], "", errors),
    }
}

/// What a path of plain names leads to in a schema.
fn resolve<'a>(schema: &'a Value, path: &str) -> Result<&'a Map<String, Value>, String> {
    let mut node = schema.as_object().ok_or("there is no schema")?;
    let names = path.strip_prefix('.').ok_or_else(|| "expected [ or . but got: ".to_owned() + path)?;
    for name in names.split('.') {
        let known = node.get("properties").and_then(|known| known.get(name));
        node = known.and_then(Value::as_object).ok_or("does not refer to a valid field")?;
    }
    Ok(node)
}

fn selectable(path: &Path, version: &Value, errors: &mut ErrorList) {
    let Some(schema) = version.pointer("/schema/openAPIV3Schema") else { return };
    let mut seen: Vec<&str> = Vec::new();
    for (at, field) in list(version, "selectableFields") {
        let (at, source) = (path.index(at).child("jsonPath"), text(field, "jsonPath"));
        if source.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let found = match resolve(schema, source) {
            Ok(found) => found,
            Err(why) => {
                errors.push(Error::invalid(&at, source, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if source.split('.').nth(1) == Some("metadata") {
            errors.push(Error::invalid(&at, source, "must not point to fields in metadata"));
        }
        let kind = found.get("type").and_then(Value::as_str).unwrap_or_default();
        if !matches!(kind, "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Error::invalid(&at, source, why));
        }
        if seen.contains(&source) {
            errors.push(Error::duplicate(&at, source));
        } else {
            seen.push(source);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(Error::too_many(path, seen.len(), MAX_SELECTABLE));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_version_says_of_itself_must_make_sense() {
        let good = json!({"name": "v1", "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "format": "int32", "jsonPath": ".spec.size"}],
            "selectableFields": [{"jsonPath": ".spec.colour"}], "deprecated": true, "deprecationWarning": "use v2",
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                "properties": {"colour": {"type": "string"}}}}}}});
        assert_eq!(check(&Path::new("v"), &good).len(), 0);
        let mut bad = good.clone();
        bad["subresources"]["scale"]["statusReplicasPath"] = ".spec.replicas".into();
        bad["additionalPrinterColumns"][0] = json!({"name": "Size", "type": "size", "jsonPath": "spec"});
        bad["selectableFields"] = json!([{"jsonPath": ".spec.none"}, {"jsonPath": ".spec"}]);
        bad["deprecated"] = false.into();
        let found: Vec<String> = check(&Path::new("v"), &bad).iter().map(ToString::to_string).collect();
        let expected = [
            "v.deprecationWarning: Invalid value: \"use v2\": can only be set for deprecated versions",
            "v.subresources.scale.statusReplicasPath: Invalid value: \".spec.replicas\": should be a json path under .status",
            "v.additionalPrinterColumns[0].type: Invalid value: \"size\": must be one of boolean,date,integer,number,string",
            "v.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting with .",
            "v.selectableFields[0].jsonPath: Invalid value: \".spec.none\": is an invalid path: does not refer to a valid field",
        ];
        assert_eq!(found[..5], expected);
        assert!(found[5].contains("must point to a field of type string"));
    }
}
