//! The rules of custom resources (`x-kubernetes-validations`): compiled once per definition, evaluated on every
//! write.

mod check;
mod compile;
mod declare;
mod evaluate;
mod field_path;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

pub use check::check_rules;

use super::{Form, Structural};
use crate::cel::{Program, Type};
use crate::field::ErrorList;

/// All rules of a schema, by the place they stand at.
#[derive(Debug)]
pub struct Rules(Node);

/// What rules came to.
#[derive(Debug, Default)]
pub struct Checked {
    pub errors: ErrorList,
    /// Faults that were there before and did not change.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
struct Node {
    rules: Vec<Rule>,
    /// The type of `self`.
    of: Arc<Type>,
    form: Option<Form>,
    /// The keys of items that continue old ones; for lists that are maps.
    item_keys: Option<Vec<String>>,
    items: Option<Box<Node>>,
    additional: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    all_of: Vec<Node>,
}

/// A rule as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    rule: String,
    message: String,
    message_expression: String,
    reason: Option<String>,
    field_path: String,
    optional_old_self: Option<bool>,
}

#[derive(Debug)]
struct Rule {
    source: Source,
    program: Result<Program, String>,
    message: Option<Program>,
    uses_old: bool,
    /// The place below `self` that faults are told of.
    field_path: String,
}

impl Source {
    fn read(rule: &Value) -> Self {
        Self::deserialize(rule).unwrap_or_default()
    }

    /// What messages call the rule.
    fn name(&self) -> &str {
        if self.message.is_empty() { self.rule.trim() } else { self.message.trim() }
    }

    fn default_message(&self) -> String {
        match self.message.is_empty() {
            true => format!("failed rule: {}", self.rule.trim()),
            false => self.message.trim().to_owned(),
        }
    }
}

impl Rules {
    /// Compiles the rules of a schema; none if it has none.
    pub fn compile(schema: &Structural) -> Option<Self> {
        compile::compile(schema).map(Self)
    }

    /// Evaluates the rules on an object that is created, or that was changed from another.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Checked {
        evaluate::evaluate(&self.0, object, old)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::Path;

    fn texts(schema: Value, object: Value, old: Option<Value>) -> Vec<String> {
        let rules = Rules::compile(&Structural::parse(&schema)).expect("the schema has rules");
        let checked = rules.check(&object, old.as_ref());
        checked.errors.iter().map(ToString::to_string).collect()
    }

    fn refused(schema: Value) -> Vec<String> {
        let errors = check_rules(&Path::new("s"), &Structural::parse(&schema));
        errors.iter().map(ToString::to_string).collect()
    }

    fn with_rule(rule: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": [rule],
            "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string"},
                "list": {"type": "array", "items": {"type": "string"}}}}}})
    }

    #[test]
    fn a_rule_that_does_not_hold_is_told_as_upstream_tells_it() {
        let rule = json!({"rule": "self.min <= self.max"});
        assert!(texts(with_rule(rule.clone()), json!({"spec": {"min": 1, "max": 2}}), None).is_empty());
        assert_eq!(
            texts(with_rule(rule), json!({"spec": {"min": 3, "max": 2}}), None),
            ["spec: Invalid value: failed rule: self.min <= self.max"]
        );
        let rule = json!({"rule": "self.min <= self.max", "messageExpression": "'min is ' + string(self.min)",
            "reason": "FieldValueForbidden", "fieldPath": ".min"});
        assert_eq!(
            texts(with_rule(rule), json!({"spec": {"min": 3, "max": 2}}), None),
            ["spec.min: Forbidden: min is 3"]
        );
        let rule = json!({"rule": "self.min > 0", "message": "positive"});
        assert_eq!(
            texts(with_rule(rule), json!({"spec": {}}), None),
            ["spec: Invalid value: \"object\": no such key: min evaluating rule: positive"]
        );
    }

    #[test]
    fn transition_rules_need_something_to_compare_with() {
        let rule = json!({"rule": "self.name == oldSelf.name", "message": "immutable"});
        let (new, old) = (json!({"spec": {"name": "b"}}), json!({"spec": {"name": "a"}}));
        assert!(texts(with_rule(rule.clone()), new.clone(), None).is_empty());
        assert_eq!(
            texts(with_rule(rule), new.clone(), Some(old.clone())),
            ["spec: Invalid value: immutable"]
        );
        let rule = json!({"rule": "oldSelf.hasValue()", "optionalOldSelf": true, "message": "never made"});
        assert_eq!(texts(with_rule(rule.clone()), new.clone(), None), ["spec: Invalid value: never made"]);
        assert!(texts(with_rule(rule), new, Some(old)).is_empty());
    }

    #[test]
    fn what_was_wrong_before_and_did_not_change_is_only_warned_of() {
        let schema = Structural::parse(&with_rule(json!({"rule": "self.min > 5"})));
        let rules = Rules::compile(&schema).expect("the schema has rules");
        let object = json!({"spec": {"min": 1}, "metadata": {"name": "new"}});
        let checked = rules.check(&object, Some(&json!({"spec": {"min": 1}})));
        assert!(checked.errors.is_empty() && checked.warnings.len() == 1);
        assert_eq!(rules.check(&object, Some(&json!({"spec": {"min": 2}}))).errors.len(), 1);
    }

    #[test]
    fn a_rule_may_be_dear_by_estimate_and_still_be_cut_off() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-validations": [{"rule": "self.large.all(x, self.large.all(y, y == x))"}],
            "properties": {"large": {"type": "array", "maxItems": 725, "items": {"type": "integer"}}}}}});
        assert_eq!(refused(schema.clone()), Vec::<String>::new());
        let faults = texts(schema, json!({"spec": {"large": vec![1; 725]}}), None);
        assert!(faults[0].contains("call cost exceeds limit for rule: self.large.all"), "{faults:?}");
    }

    #[test]
    fn rules_of_definitions_are_checked() {
        assert!(refused(with_rule(json!({"rule": "self.min < 3"}))).is_empty());
        let faults = refused(with_rule(json!({"rule": "self.nope < 3"})));
        assert!(
            faults[0].starts_with("s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: "),
            "{faults:?}"
        );
        assert!(
            faults[0].contains("compilation failed: ERROR: <input>:1:5: undefined field 'nope'"),
            "{faults:?}"
        );
        let faults = refused(with_rule(json!({"rule": "self.list.all(x, self.list.all(y, x == y))"})));
        assert_eq!(
            faults[0],
            "s.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by \
             factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength \
             where arrays, maps, and strings are declared)"
        );
        assert!(
            refused(with_rule(json!({"rule": "self.min"})))[0]
                .ends_with("cel expression must evaluate to a bool")
        );
        assert!(
            refused(with_rule(json!({"rule": " "})))[0].ends_with("Required value: rule is not specified")
        );
        assert!(
            refused(with_rule(json!({"rule": "true", "reason": "x"})))[0]
                .contains("Unsupported value: \"x\"")
        );
        let faults = refused(json!({"type": "object", "properties": {"l": {"type": "array", "maxItems": 3,
            "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}));
        assert!(
            faults[0].ends_with(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[l]"
            ),
            "{faults:?}"
        );
    }
}
