//! Secrets.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde_json::{Map, Value};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::{At, same};
use crate::resources::fill;

/// The most data that a Secret or ConfigMap holds, in bytes.
pub const SIZE_MAX: usize = 1024 * 1024;
const ACCOUNT: &str = "kubernetes.io/service-account.name";

pub struct Secret;

impl Strategy for Secret {
    fn set_defaults(&self, object: &mut Value) {
        fill::zero(object, "type", "Opaque");
        // What is written as text is kept as bytes.
        let texts = object.as_object_mut().and_then(|fields| fields.remove("stringData"));
        if let Some(Value::Object(texts)) = texts {
            let data = object::map_at(object, "data");
            for (key, text) in texts {
                data[key] = encode(text.as_str().unwrap_or_default().as_bytes()).into();
            }
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        // A writer that does not know of types keeps the type.
        if object.get("type").is_none_or(fill::is_zero) {
            object::copy_field(object, old, "type");
        }
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

/// How many bytes a base64 text stands for.
pub fn decoded_length(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let mut size = 0;
    for (key, value) in root.entries("data") {
        errors.extend(names::config_map_key(key).into_iter().map(|wrong| value.invalid_as(key, wrong)));
        size += decoded_length(value.str());
    }
    let data = root.at("data");
    if size > SIZE_MAX {
        errors.push(Error::too_long(data.path(), SIZE_MAX));
    }
    let key = |name: &'static str| At::new(data.get(name), data.path().key(name));
    let mut require = |at: &At<'_>, missing: bool| {
        if missing {
            errors.push(at.required(""));
        }
    };
    match root.text("type") {
        "kubernetes.io/service-account-token" => {
            let annotations = root.at("metadata").at("annotations");
            let account = At::new(annotations.get(ACCOUNT), annotations.path().key(ACCOUNT));
            require(&account, account.str().is_empty());
        }
        "kubernetes.io/dockercfg" => json_object(&key(".dockercfg"), &mut errors),
        "kubernetes.io/dockerconfigjson" => json_object(&key(".dockerconfigjson"), &mut errors),
        "kubernetes.io/basic-auth" => {
            let both = [key("username"), key("password")];
            let neither = both.iter().all(|at| at.value().is_none());
            both.iter().for_each(|at| require(at, neither));
        }
        "kubernetes.io/ssh-auth" => {
            let private = key("ssh-privatekey");
            require(&private, private.str().is_empty());
        }
        "kubernetes.io/tls" => {
            for at in [key("tls.crt"), key("tls.key")] {
                require(&at, at.value().is_none());
            }
        }
        _ => {}
    }
    errors
}

fn json_object(at: &At<'_>, errors: &mut ErrorList) {
    if at.value().is_none() {
        errors.push(at.required(""));
    } else if serde_json::from_slice::<Map<String, Value>>(&decode(at.str())).is_err() {
        let detail = match decode(at.str()).first() {
            None => "unexpected end of JSON input".to_owned(),
            Some(byte) => {
                format!("invalid character {:?} looking for beginning of value", char::from(*byte))
            }
        };
        errors.push(at.invalid_as("<secret contents redacted>", detail));
    }
}

/// What an object that says it is immutable may not change.
pub fn frozen(object: &Value, old: &Value, fields: &[&'static str]) -> ErrorList {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    let (new, old) = (At::root(object), At::root(old));
    let mut errors = ErrorList::new();
    if !old.flag("immutable") {
        return errors;
    }
    if !new.flag("immutable") {
        errors.push(new.at("immutable").forbidden(DETAIL));
    }
    for field in fields.iter().filter(|field| !same(new.get(field), old.get(field))) {
        errors.push(Error::forbidden(&Path::new(*field), DETAIL));
    }
    errors
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    At::root(object).at("type").immutable(&mut errors, &At::root(old).at("type"));
    errors.extend(frozen(object, old, &["data"]));
    errors.extend(validate(object));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates, completed};

    #[test]
    fn secrets_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"},
            "stringData": {"a": "b"},
        });
        let whole = completed(&Secret, &valid);
        assert_eq!((&whole["type"], &whole["data"]), (&json!("Opaque"), &json!({"a": "Yg=="})));
        check(
            &Secret,
            validate,
            &valid,
            &[
                (
                    "/type",
                    json!("kubernetes.io/tls"),
                    "[data[tls.crt]: Required value, data[tls.key]: Required value]",
                ),
                (
                    "/type",
                    json!("kubernetes.io/basic-auth"),
                    "[data[username]: Required value, data[password]: Required value]",
                ),
                ("/type", json!("kubernetes.io/ssh-auth"), "data[ssh-privatekey]: Required value"),
                ("/type", json!("kubernetes.io/dockerconfigjson"), "data[.dockerconfigjson]: Required value"),
                (
                    "/type",
                    json!("kubernetes.io/service-account-token"),
                    "metadata.annotations[kubernetes.io/service-account.name]: Required value",
                ),
            ],
        );
        check_updates(
            &Secret,
            update,
            &valid,
            &[
                ("/type", json!("x"), "type: Invalid value: \"x\": field is immutable"),
                ("/stringData/a", json!("c"), ""),
            ],
        );
    }
}
