//! CustomResourceDefinitions.

use knarr_api::field::{Error, ErrorList, IMMUTABLE, Path};
use knarr_api::names;
use knarr_api::structural::{Structural, check_rules};
use serde_json::{Value, json};

use super::{schema, versions};
use crate::custom::FINALIZER;
use crate::custom::approval::{self, Approval};
use crate::object;
use crate::registry::{Context, DeleteStep, Strategy};

pub struct Definition;

impl Strategy for Definition {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        let kind = spec.pointer("/names/kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let names = object::map_at(spec, "names");
        let mut or = |field: &str, value: String| {
            if names.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
                names[field] = value.into();
            }
        };
        or("singular", kind.to_lowercase());
        or("listKind", format!("{kind}List"));
        if spec.get("conversion").is_none_or(Value::is_null) {
            spec["conversion"] = json!({"strategy": "None"});
        }
        if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service")
            && service.get("port").is_none_or(Value::is_null)
        {
            service["port"] = 443.into();
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        let stored: Vec<Value> = storage_versions(object).cloned().collect();
        object["status"] = json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored});
    }

    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, _: &Value) {
        let wanted: Vec<Value> = storage_versions(object).cloned().collect();
        let status = object::map_at(object, "status");
        match status.get_mut("storedVersions").and_then(Value::as_array_mut) {
            Some(known) => wanted.into_iter().for_each(|version| {
                if !known.contains(&version) {
                    known.push(version);
                }
            }),
            None => status["storedVersions"] = wanted.into(),
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = validate(object);
        errors.extend(validate_new(object));
        errors.extend(validate_approval(object, None));
        errors
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = validate(object);
        // What was accepted once may stay as it is.
        if object.get("spec") != old.get("spec") {
            errors.extend(validate_new(object));
        }
        errors.extend(validate_approval(object, Some(old)));
        errors.extend(validate_stored_versions(object));
        let path = Path::new("spec");
        let conditions = old.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let established = conditions.into_iter().any(|c| c["type"] == "Established" && c["status"] == "True");
        let mut fixed = vec![
            ("/spec/group", path.child("group")),
            ("/spec/names/plural", path.child("names").child("plural")),
        ];
        if established {
            fixed.push(("/spec/scope", path.child("scope")));
            fixed.push(("/spec/names/kind", path.child("names").child("kind")));
        }
        for (pointer, path) in fixed {
            let (new, old) = (object.pointer(pointer), old.pointer(pointer));
            if new != old {
                errors.push(Error::invalid(&path, new.cloned().unwrap_or_default(), IMMUTABLE));
            }
        }
        errors
    }

    fn prepare_for_delete(&self, cx: &Context<'_>, object: &mut Value) -> Option<DeleteStep> {
        if object::is_deleting(object) {
            return object::finalizers(object).contains(&FINALIZER).then_some(DeleteStep::Wait);
        }
        let now = object::timestamp(cx.now);
        object::set_meta(object, "deletionTimestamp", now.as_str());
        object::set_meta(object, "deletionGracePeriodSeconds", 0);
        let mut finalizers: Vec<String> = object::finalizers(object).into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|name| name == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        object::set_finalizers(object, finalizers);
        let condition = json!({"type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            "lastTransitionTime": now});
        let status = object::map_at(object, "status");
        match status.get_mut("conditions").and_then(Value::as_array_mut) {
            Some(conditions) => conditions.push(condition),
            None => status["conditions"] = json!([condition]),
        }
        Some(DeleteStep::Mark)
    }
}

fn versions(definition: &Value) -> &[Value] {
    definition.pointer("/spec/versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The names of the versions marked as the stored one.
fn storage_versions(definition: &Value) -> impl Iterator<Item = &Value> {
    versions(definition)
        .iter()
        .filter(|version| version["storage"] == true)
        .filter_map(|version| version.get("name"))
}

/// What is asked of a definition that is new or changed.
fn validate_new(definition: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    for (at, version) in versions(definition).iter().enumerate() {
        errors.extend(versions::check(&path.child("versions").index(at), version));
    }
    for list in ["shortNames", "categories"] {
        let names = definition.pointer(&format!("/spec/names/{list}")).and_then(Value::as_array);
        for (at, name) in names.into_iter().flatten().filter_map(Value::as_str).enumerate() {
            let faults = names::dns_1035_label(name);
            if !faults.is_empty() {
                let at = path.child("names").child(list).index(at);
                errors.push(Error::invalid(&at, name, faults.join(",")));
            }
        }
    }
    if definition.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true)) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Error::invalid(&path.child("preserveUnknownFields"), true, why));
    }
    for (place, schema) in schemas(definition) {
        let mut found = schema::check(&place, schema);
        if found.is_empty() && Structural::check_schema(&place, schema).is_empty() {
            found = schema::check_defaults(&place, schema);
        }
        errors.extend(found);
    }
    errors
}

/// Definitions in groups of the Kubernetes project say who approved of them. What did not change may stay.
fn validate_approval(definition: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let group = definition.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default();
    let (now, why) = Approval::of(definition);
    if !approval::is_protected(group) || old.is_some_and(|old| Approval::of(old).0 == now) {
        return errors;
    }
    let path = Path::new("metadata").child("annotations").key(approval::ANNOTATION);
    match now {
        Approval::Missing => errors.push(Error::required(&path, why)),
        Approval::Invalid => errors.push(Error::invalid(&path, approval::text(definition), why)),
        Approval::Approved | Approval::Bypassed => {}
    }
    errors
}

/// A version that objects may be stored in must not go.
fn validate_stored_versions(definition: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status").child("storedVersions");
    let stored = definition.pointer("/status/storedVersions").and_then(Value::as_array);
    for (at, name) in stored.into_iter().flatten().filter_map(Value::as_str).enumerate() {
        if !versions(definition).iter().any(|version| version["name"] == name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(Error::invalid(&path.index(at), name, why));
        }
    }
    errors
}

/// The schemas, each once and where upstream says it stands: one for all versions stands for itself.
fn schemas(definition: &Value) -> Vec<(Path, &Value)> {
    let path = Path::new("spec");
    let all: Vec<Option<&Value>> =
        versions(definition).iter().map(|version| version.pointer("/schema/openAPIV3Schema")).collect();
    match all.as_slice() {
        [Some(first), rest @ ..] if rest.iter().all(|schema| *schema == Some(*first)) => {
            vec![(path.child("validation").child("openAPIV3Schema"), *first)]
        }
        _ => {
            let place = |at| path.child("versions").index(at).child("schema").child("openAPIV3Schema");
            all.into_iter().enumerate().filter_map(|(at, schema)| Some((place(at), schema?))).collect()
        }
    }
}

fn validate(definition: &Value) -> ErrorList {
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, plural, name) = (text("/spec/group"), text("/spec/names/plural"), object::name(definition));
    if name != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, detail));
    }
    let at = path.child("group");
    if group.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        errors.extend(names::dns_subdomain(group).into_iter().map(|m| Error::invalid(&at, group, m)));
        if group.split('.').count() < 2 {
            errors.push(Error::invalid(&at, group, "should be a domain with at least one dot"));
        }
    }
    match text("/spec/scope") {
        "Cluster" | "Namespaced" => {}
        "" => errors.push(Error::required(&path.child("scope"), "")),
        other => errors.push(Error::not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"])),
    }
    errors.extend(validate_names(definition, &path.child("names")));
    errors.extend(validate_versions(definition, &path));
    errors.extend(validate_conversion(definition, &path.child("conversion")));
    errors
}

fn validate_conversion(definition: &Value, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(conversion) = definition.pointer("/spec/conversion") else { return errors };
    let webhook = conversion.get("webhook").filter(|webhook| webhook.is_object());
    let at = path.child("webhook");
    match conversion.get("strategy").and_then(Value::as_str).unwrap_or_default() {
        "" => errors.push(Error::required(&path.child("strategy"), "")),
        "None" => {
            if webhook.is_some() {
                errors.push(Error::forbidden(&at, "should not be set when strategy is not set to Webhook"));
            }
        }
        "Webhook" => match webhook {
            None => errors.push(Error::required(&at, "required when strategy is set to Webhook")),
            Some(webhook) => {
                let client = webhook.get("clientConfig").filter(|client| client.is_object());
                let has = |field: &str| {
                    client.and_then(|client| client.get(field)).is_some_and(|value| !value.is_null())
                };
                let place = at.child("clientConfig");
                if client.is_none() {
                    errors.push(Error::required(&place, "required when strategy is set to Webhook"));
                } else if has("url") == has("service") {
                    errors.push(Error::required(&place, "exactly one of url or service is required"));
                }
                let versions = webhook.get("conversionReviewVersions").and_then(Value::as_array);
                let versions = versions.map(Vec::as_slice).unwrap_or_default();
                let place = at.child("conversionReviewVersions");
                if versions.is_empty() {
                    errors.push(Error::required(&place, "required when strategy is set to Webhook"));
                } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
                    let why = "must include at least one of v1, v1beta1";
                    errors.push(Error::invalid(&place, Value::from(versions.to_vec()), why));
                }
            }
        },
        other => errors.push(Error::not_supported(&path.child("strategy"), other, &["None", "Webhook"])),
    }
    errors
}

fn validate_names(definition: &Value, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for field in ["plural", "singular", "kind", "listKind"] {
        let at = path.child(field);
        let name =
            definition.pointer(&format!("/spec/names/{field}")).and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let faults = names::dns_1035_label(&name.to_lowercase());
        errors.extend(faults.into_iter().map(|m| {
            Error::invalid(&at, name, format!("may have mixed case, but should otherwise match: {m}"))
        }));
    }
    let kind = definition.pointer("/spec/names/kind");
    if kind.is_some() && kind == definition.pointer("/spec/names/listKind") {
        let detail = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), kind.cloned().unwrap_or_default(), detail));
    }
    errors
}

/// Rules are looked at only in a schema that is fine otherwise: their types come from it.
fn validate_schema(path: &Path, schema: &Value) -> ErrorList {
    let errors = Structural::check_schema(path, schema);
    if errors.is_empty() { check_rules(path, &Structural::parse(schema)) } else { errors }
}

fn validate_versions(definition: &Value, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let versions = versions(definition);
    let at = path.child("versions");
    if versions.is_empty() {
        errors.push(Error::invalid(&at, json!([]), "must have at least one version"));
    }
    if storage_versions(definition).count() != 1 {
        errors.push(Error::invalid(
            &at,
            Value::from(versions.to_vec()),
            "must have exactly one version marked as storage version",
        ));
    }
    let mut seen = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let at = at.index(index);
        let name = version["name"].as_str().unwrap_or_default();
        errors.extend(
            names::dns_1035_label(name).into_iter().map(|m| Error::invalid(&at.child("name"), name, m)),
        );
        if seen.contains(&name) {
            errors.push(Error::invalid(&at.child("name"), name, "must be unique"));
        }
        seen.push(name);
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            let place = at.child("schema").child("openAPIV3Schema");
            errors.push(Error::required(&place, "schemas are required"));
        }
    }
    for (place, schema) in schemas(definition) {
        errors.extend(validate_schema(&place, schema));
    }
    errors
}
