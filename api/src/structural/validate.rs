//! Values against their schema. The order of checks, their texts, and the choice of which branch of an `anyOf` or
//! `oneOf` to report are those of upstream's validator.

use serde_json::{Map, Value};

use super::{Additional, Form, Structural, format};
use crate::field::{self, Error, ErrorList, quote};

impl Structural {
    /// Everything that is wrong with an object.
    pub fn validate(&self, object: &Value) -> ErrorList {
        self.check("", object, None).errors.into_iter().collect()
    }

    /// Everything that is wrong with a changed object. What was wrong before and did not change is let through, so
    /// that a stricter schema does not stand in the way of other changes.
    pub fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        self.check("", object, Some(old)).errors.into_iter().collect()
    }

    fn check(&self, path: &str, value: &Value, old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome::default();
        if old == Some(value) {
            return outcome;
        }
        outcome.merge(self.check_form(path, value));
        if value.is_null() {
            outcome.merge(self.check_enumeration(path, value));
            return outcome;
        }
        outcome.passed += 1;
        outcome.merge(self.check_branches(path, value, old));
        outcome.passed += 1;
        match value {
            Value::String(text) => outcome.merge(self.check_text(path, text)),
            Value::Number(number) => outcome.merge(self.check_number(path, number)),
            Value::Array(items) => outcome.merge(self.check_items(path, items, old)),
            _ => {}
        }
        outcome.passed += 1;
        outcome.merge(self.check_enumeration(path, value));
        if let Value::Object(map) = value {
            outcome.merge(self.check_fields(path, map, old));
        }
        outcome.passed += 1;
        outcome
    }

    fn check_form(&self, path: &str, value: &Value) -> Outcome {
        let mut outcome = Outcome { passed: 1, ..Outcome::default() };
        let names: &[&str] = match (self.int_or_string, self.form) {
            (true, _) => &["integer", "string"],
            (false, Some(form)) => &[form.name()],
            (false, None) => return outcome,
        };
        let found = match value {
            Value::Null if self.nullable => return outcome,
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
        let fits = names.contains(&found)
            || (found == "number" && whole && names.contains(&"integer"))
            || (found == "integer" && names.contains(&"number"));
        // A format makes upstream skip the check of texts and lists.
        let formatted = !self.constraints().format.is_empty()
            && !names.iter().any(|name| matches!(*name, "number" | "integer"))
            && matches!(value, Value::String(_) | Value::Array(_))
            && format::is_known(self.form, &self.constraints().format);
        if !fits && !formatted {
            outcome.errors.push(wrong_type(path, &names.join(","), found));
        }
        outcome
    }

    fn check_branches(&self, path: &str, value: &Value, old: Option<&Value>) -> Outcome {
        let constraints = self.constraints();
        let mut outcome = Outcome::default();
        if !constraints.any_of.is_empty() {
            let tried: Vec<Outcome> =
                constraints.any_of.iter().map(|schema| schema.check(path, value, old)).collect();
            if !tried.iter().any(Outcome::is_valid) {
                outcome.compound(format!("{} must validate at least one schema (anyOf)", quote(path)));
            }
            outcome.merge(best(tried));
        }
        if !constraints.one_of.is_empty() {
            let tried: Vec<Outcome> =
                constraints.one_of.iter().map(|schema| schema.check(path, value, old)).collect();
            let valid = tried.iter().filter(|outcome| outcome.is_valid()).count();
            if valid != 1 {
                let found = match valid {
                    0 => "Found none valid".to_owned(),
                    count => format!("Found {count} valid alternatives"),
                };
                outcome.compound(format!(
                    "{} must validate one and only one schema (oneOf). {found}",
                    quote(path)
                ));
            }
            if valid <= 1 {
                outcome.merge(best(tried));
            }
        }
        if !constraints.all_of.is_empty() {
            let tried: Vec<Outcome> =
                constraints.all_of.iter().map(|schema| schema.check(path, value, old)).collect();
            let valid = tried.iter().filter(|outcome| outcome.is_valid()).count();
            let all = tried.len();
            tried.into_iter().for_each(|tried| outcome.merge(tried));
            if valid != all {
                let hint = if valid == 0 { ". None validated" } else { "" };
                outcome.compound(format!("{} must validate all the schemas (allOf){hint}", quote(path)));
            }
        }
        if constraints.not.as_ref().is_some_and(|schema| schema.check(path, value, None).is_valid()) {
            outcome.compound(format!("{} must not validate the schema (not)", quote(path)));
        }
        outcome.passed += 1;
        outcome
    }

    fn check_text(&self, path: &str, text: &str) -> Outcome {
        let constraints = self.constraints();
        let mut outcome = Outcome::default();
        let length = text.chars().count() as i64;
        let mut fail = |message: String| outcome.errors.push(Error::invalid(&at(path), text, message));
        // Only the first of these is reported.
        if let Some(max) = constraints.max_length.filter(|max| length > *max) {
            outcome.errors.push(Error::too_long(&at(path), usize::try_from(max).unwrap_or(0)));
        } else if let Some(min) = constraints.min_length.filter(|min| length < *min) {
            fail(format!("{path} in body should be at least {min} chars long"));
        } else if let Some(pattern) = &constraints.pattern {
            match pattern.matches(text) {
                Ok(true) => {}
                Ok(false) => fail(format!("{path} in body should match '{}'", pattern.text)),
                Err(why) => {
                    fail(format!(
                        "{path} in body should match '{}, but pattern is invalid: {why}'",
                        pattern.text
                    ));
                }
            }
        }
        if format::is_known(self.form, &constraints.format) && !format::matches(&constraints.format, text) {
            let message = format!("{path} in body must be of type {}: {}", constraints.format, quote(text));
            outcome.errors.push(Error::type_invalid(&at(path), text, message));
        }
        outcome
    }

    fn check_number(&self, path: &str, number: &serde_json::Number) -> Outcome {
        let constraints = self.constraints();
        let mut outcome = Outcome { passed: 1, ..Outcome::default() };
        let value = number.as_f64().unwrap_or_default();
        let mut fail = |message: String| {
            outcome.errors.push(Error::invalid(&at(path), Value::Number(number.clone()), message));
        };
        if let Some(factor) = constraints.multiple_of
            && (value / factor).fract() != 0.0
        {
            fail(format!("{path} in body should be a multiple of {}", plain(factor)));
        }
        if let Some(min) = constraints.minimum {
            if constraints.exclusive_minimum && value <= min {
                fail(format!("{path} in body should be greater than {}", plain(min)));
            } else if value < min {
                fail(format!("{path} in body should be greater than or equal to {}", plain(min)));
            }
        }
        if let Some(max) = constraints.maximum {
            if constraints.exclusive_maximum && value >= max {
                fail(format!("{path} in body should be less than {}", plain(max)));
            } else if value > max {
                fail(format!("{path} in body should be less than or equal to {}", plain(max)));
            }
        }
        if self.form == Some(Form::Integer)
            && let Some(message) = out_of_range(path, number, &constraints.format)
        {
            outcome.compound(message);
        }
        outcome
    }

    fn check_items(&self, path: &str, items: &[Value], old: Option<&Value>) -> Outcome {
        let constraints = self.constraints();
        let mut outcome = Outcome { passed: 1, ..Outcome::default() };
        if let Some(schema) = &self.items {
            for (index, item) in items.iter().enumerate() {
                let old = self.correlated_item(old, item);
                outcome.merge(schema.check(&format!("{path}[{index}]"), item, old));
            }
        }
        let count = items.len() as i64;
        if let Some(min) = constraints.min_items.filter(|min| count < *min) {
            let message = format!("{path} in body should have at least {min} items");
            outcome.errors.push(Error::invalid(&at(path), count, message));
        }
        if let Some(max) = constraints.max_items.filter(|max| count > *max) {
            outcome.errors.push(Error::too_many(&at(path), items.len(), usize::try_from(max).unwrap_or(0)));
        }
        if constraints.unique_items && (1..items.len()).any(|index| items[..index].contains(&items[index])) {
            outcome.errors.push(Error::invalid(
                &at(path),
                "",
                format!("{path} in body shouldn't contain duplicates"),
            ));
        }
        outcome
    }

    fn check_enumeration(&self, path: &str, value: &Value) -> Outcome {
        let allowed = &self.constraints().enumeration;
        let mut outcome = Outcome::default();
        let same = |other: &Value| match (value.as_f64(), other.as_f64()) {
            (Some(value), Some(other)) => value == other,
            _ => value == other,
        };
        let null_of_nullable = value.is_null() && self.nullable && allowed.contains(&Value::Null);
        if !allowed.is_empty() && !null_of_nullable && !allowed.iter().any(same) {
            let names: Vec<String> = allowed
                .iter()
                .map(|allowed| allowed.as_str().map_or_else(|| allowed.to_string(), str::to_owned))
                .collect();
            outcome.errors.push(Error::not_supported(&at(path), value, &names));
        }
        outcome
    }

    fn check_fields(&self, path: &str, map: &Map<String, Value>, old: Option<&Value>) -> Outcome {
        let constraints = self.constraints();
        let before = |name: &str| old.and_then(|old| old.get(name));
        let mut outcome = Outcome::default();
        let count = map.len() as i64;
        if let Some(min) = constraints.min_properties.filter(|min| count < *min) {
            let message = format!("{path} in body should have at least {min} properties");
            outcome.errors.push(Error::invalid(&at(path), count, message));
        }
        if let Some(max) = constraints.max_properties.filter(|max| count > *max) {
            outcome.errors.push(Error::too_many(&at(path), map.len(), usize::try_from(max).unwrap_or(0)));
        }
        for (name, value) in map {
            if self.properties.contains_key(name) {
                continue;
            }
            match &self.additional {
                Some(Additional::Of(schema)) => {
                    outcome.merge(schema.check(&format!("{path}.{name}"), value, before(name)));
                }
                Some(Additional::Allowed(false)) => outcome.errors.push(Error::invalid(
                    &at(path),
                    name,
                    format!("{path}.{name} in body is a forbidden property"),
                )),
                _ => {}
            }
        }
        for (name, schema) in &self.properties {
            if let Some(value) = map.get(name) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                outcome.merge(schema.check(&path, value, before(name)));
            }
        }
        for name in constraints.required.iter().filter(|name| !map.contains_key(*name)) {
            outcome.errors.push(Error::required(&at(&format!("{path}.{name}")), ""));
        }
        outcome
    }
}

/// What a check found, and how many checks it made: the branch with most is taken to be the one that was meant.
#[derive(Default)]
struct Outcome {
    errors: Vec<Error>,
    passed: usize,
}

impl Outcome {
    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.passed += other.passed;
    }

    /// An error that upstream does not attach to a field.
    fn compound(&mut self, message: String) {
        self.errors.push(Error::invalid(&field::Path::nil(), "", message));
    }
}

/// The first valid branch, else the one that came furthest.
fn best(tried: Vec<Outcome>) -> Outcome {
    let mut best: Option<Outcome> = None;
    for outcome in tried {
        if outcome.is_valid() {
            return outcome;
        }
        if best.as_ref().is_none_or(|best| outcome.passed > best.passed) {
            best = Some(outcome);
        }
    }
    best.unwrap_or_default()
}

/// The validator's paths are texts already.
fn at(path: &str) -> field::Path {
    match path.trim_start_matches('.') {
        "" => field::Path::nil(),
        path => field::Path::new(path.to_owned()),
    }
}

fn wrong_type(path: &str, expected: &str, found: &'static str) -> Error {
    let message = format!("{path} in body must be of type {expected}: {}", quote(found));
    Error::type_invalid(&at(path), found, message)
}

fn plain(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { number.to_string() }
}

fn out_of_range(path: &str, number: &serde_json::Number, format: &str) -> Option<String> {
    let int = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9.2e18)?;
        Some(float as i64)
    });
    let fits = match format {
        "int32" => int.is_some_and(|int| i32::try_from(int).is_ok()),
        _ => int.is_some(),
    };
    match (fits, format) {
        (true, _) => None,
        (false, "int32" | "int64") => {
            Some(format!("Checked value must be of type integer with format {format} in {path}"))
        }
        (false, _) => Some(format!("Checked value must be of type integer (default format) in {path}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(schema: Value, object: Value) -> Vec<String> {
        Structural::parse(&schema).validate(&object).iter().map(ToString::to_string).collect()
    }

    fn spec(schema: Value, value: Value) -> Vec<String> {
        errors(json!({"type": "object", "properties": {"spec": schema}}), json!({"spec": value}))
    }

    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        for (schema, value, message) in [
            (
                json!({"type": "integer"}),
                json!("x"),
                r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#,
            ),
            (
                json!({"type": "string", "pattern": "^a+$"}),
                json!("b"),
                r#"spec: Invalid value: "b": spec in body should match '^a+$'"#,
            ),
            (
                json!({"type": "string", "minLength": 2}),
                json!("b"),
                r#"spec: Invalid value: "b": spec in body should be at least 2 chars long"#,
            ),
            (
                json!({"type": "integer", "minimum": 1}),
                json!(0),
                "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
            ),
            (
                json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
                json!(1.5),
                "spec: Invalid value: 1.5: spec in body should be less than 1.5",
            ),
            (
                json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
                json!([]),
                "spec: Invalid value: 0: spec in body should have at least 1 items",
            ),
            (json!({"type": "object", "required": ["a"]}), json!({}), "spec.a: Required value"),
            (
                json!({"type": "string", "enum": ["a", "b"]}),
                json!("c"),
                r#"spec: Unsupported value: "c": supported values: "a", "b""#,
            ),
            (
                json!({"type": "string", "format": "ipv4"}),
                json!("::1"),
                r#"spec: Invalid value: "::1": spec in body must be of type ipv4: "::1""#,
            ),
            (
                json!({"type": "string"}),
                Value::Null,
                r#"spec: Invalid value: "null": spec in body must be of type string: "null""#,
            ),
        ] {
            assert_eq!(spec(schema.clone(), value), [message], "{schema}");
        }
    }

    #[test]
    fn branches_report_the_one_that_came_furthest() {
        let schema =
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]});
        assert!(spec(schema.clone(), json!("x")).is_empty());
        assert!(spec(schema.clone(), json!(1)).is_empty());
        assert!(!spec(schema, json!(true)).is_empty());
        let schema = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
        assert_eq!(
            spec(schema.clone(), json!({"a": 1, "b": 2})),
            [
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
            ]
        );
        assert!(spec(schema, json!({"b": 2})).is_empty());
    }

    #[test]
    fn integers_have_a_range_and_numbers_may_be_whole() {
        assert!(spec(json!({"type": "integer", "format": "int32"}), json!(5)).is_empty());
        assert_eq!(
            spec(json!({"type": "integer", "format": "int32"}), json!(5_000_000_000_i64)),
            [r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec"#]
        );
        assert!(spec(json!({"type": "number"}), json!(5)).is_empty());
        assert!(spec(json!({"type": "string", "nullable": true}), Value::Null).is_empty());
    }
}
