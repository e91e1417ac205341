//! The schema of one version of a custom resource at work.

use std::sync::Arc;

use knarr_api::field::{Error, ErrorList, ErrorType, Path};
use knarr_api::structural::{Rules, Structural};
use serde_json::Value;

use super::definition::DefinitionVersion;

/// Knows what an object of one version may hold.
#[derive(Debug)]
pub struct CustomSchema {
    pub structural: Structural,
    /// As it was written, for OpenAPI.
    pub published: Option<Arc<Value>>,
    /// Old clients' definitions keep whatever is sent.
    preserves_unknown: bool,
    /// Reads fill in defaults that were declared after the object was written.
    pub has_defaults: bool,
    /// Expressions that objects must satisfy.
    rules: Option<Rules>,
}

impl CustomSchema {
    pub fn new(version: &DefinitionVersion, preserves_unknown: bool) -> Self {
        let structural = version.schema.open_api.as_ref().map(Structural::parse).unwrap_or_default();
        let rules = Rules::compile(&structural);
        let has_defaults = version.schema.open_api.as_ref().is_some_and(has_default);
        Self {
            structural,
            published: version.schema.open_api.clone().map(Arc::new),
            preserves_unknown,
            has_defaults,
            rules,
        }
    }

    /// Brings an object into the form its schema knows; gives the faults of a strict reader.
    ///
    /// Errors: metadata of the wrong form.
    pub fn clean(&self, object: &mut Value) -> Result<Vec<String>, String> {
        let mut unknown = if self.preserves_unknown { Vec::new() } else { self.structural.prune(object) };
        unknown.extend(self.structural.coerce_metadata(object, false).map_err(|error| error.to_string())?);
        self.structural.prune_nulls(object);
        self.structural.apply_defaults(object);
        Ok(unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect())
    }

    /// Fills in what a read shows although it is not stored.
    pub fn complete(&self, object: &mut Value) {
        if self.has_defaults {
            self.structural.apply_defaults(object);
        }
    }

    /// Everything that is wrong with an object that is created, or that was changed from another. What was wrong
    /// before and did not change is only warned of.
    pub fn validate(&self, object: &Value, old: Option<&Value>, warn: &dyn Fn(String)) -> ErrorList {
        let mut errors = match old {
            None => self.structural.validate(object),
            Some(old) => self.structural.validate_update(object, old),
        };
        errors.extend(self.structural.validate_lists(object));
        let Some(rules) = &self.rules else { return errors };
        if errors.iter().any(|error| is_blocking(error.kind)) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(Error::invalid(&Path::nil(), Value::Null, why));
            return errors;
        }
        let checked = rules.check(object, old);
        checked.warnings.into_iter().for_each(warn);
        errors.extend(checked.errors);
        errors
    }
}

/// Whether a fault makes the values too unlike their types for rules to be evaluated.
fn is_blocking(kind: ErrorType) -> bool {
    matches!(kind, ErrorType::Required | ErrorType::TooLong | ErrorType::TooMany | ErrorType::TypeInvalid)
}

fn has_default(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.contains_key("default") && map.contains_key("type") || map.values().any(has_default)
        }
        Value::Array(list) => list.iter().any(has_default),
        _ => false,
    }
}
