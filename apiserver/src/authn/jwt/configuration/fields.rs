//! The fields that a configuration may have.

use serde_json::Value;

/// The fields of an object; with those of its value, or of the items of its list, where those are objects.
struct Fields(&'static [(&'static str, Option<&'static Fields>)]);

static ROOT: Fields = Fields(&[
    ("apiVersion", None),
    ("kind", None),
    ("jwt", Some(&AUTHENTICATOR)),
    ("anonymous", Some(&ANONYMOUS)),
]);
static ANONYMOUS: Fields = Fields(&[("enabled", None), ("conditions", Some(&CONDITION))]);
static CONDITION: Fields = Fields(&[("path", None)]);
static AUTHENTICATOR: Fields = Fields(&[
    ("issuer", Some(&ISSUER)),
    ("claimValidationRules", Some(&CLAIM_RULE)),
    ("claimMappings", Some(&MAPPINGS)),
    ("userValidationRules", Some(&USER_RULE)),
]);
static ISSUER: Fields = Fields(&[
    ("url", None),
    ("discoveryURL", None),
    ("certificateAuthority", None),
    ("audiences", None),
    ("audienceMatchPolicy", None),
    ("egressSelectorType", None),
]);
static CLAIM_RULE: Fields =
    Fields(&[("claim", None), ("requiredValue", None), ("expression", None), ("message", None)]);
static MAPPINGS: Fields = Fields(&[
    ("username", Some(&PREFIXED)),
    ("groups", Some(&PREFIXED)),
    ("uid", Some(&CLAIM)),
    ("extra", Some(&EXTRA)),
]);
static PREFIXED: Fields = Fields(&[("claim", None), ("prefix", None), ("expression", None)]);
static CLAIM: Fields = Fields(&[("claim", None), ("expression", None)]);
static EXTRA: Fields = Fields(&[("key", None), ("valueExpression", None)]);
static USER_RULE: Fields = Fields(&[("expression", None), ("message", None)]);

/// Adds the fields that no configuration has, in upstream's words.
pub(super) fn unknown(value: &Value, faults: &mut Vec<String>) {
    ROOT.check(value, "", faults);
}

impl Fields {
    fn check(&self, value: &Value, path: &str, faults: &mut Vec<String>) {
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.check(item, &format!("{path}[{at}]"), faults);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{name}");
                    match self.0.iter().find(|(known, _)| known == name) {
                        Some((_, Some(fields))) => fields.check(member, &path, faults),
                        Some((_, None)) => {}
                        None => faults.push(format!("unknown field \"{path}\"")),
                    }
                }
            }
            _ => {}
        }
    }
}
