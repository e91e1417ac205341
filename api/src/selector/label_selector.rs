//! The LabelSelector object, as specs hold it: `{matchLabels, matchExpressions}`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::field::{Error, ErrorList, Path, quote};
use crate::names::{label_value, validate_label_name, validate_labels};

use super::label::{Operator, Requirement, Selector, SelectorError};

impl Selector {
    /// The selector a LabelSelector stands for. None and null match nothing, an empty one everything.
    ///
    /// # Errors
    /// An operator that does not exist, or a key or value that cannot be.
    pub fn from_label_selector(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
            return Ok(Self::Nothing);
        };
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key, Operator::Equals, vec![value])?);
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default();
            requirements.push(requirement(
                key,
                expression["operator"].as_str(),
                strings(&expression["values"]),
            )?);
        }
        Ok(Self::new(requirements))
    }
}

/// The typed form; an absent selector is [`Selector::Nothing`], which is the caller's to say.
impl TryFrom<&LabelSelector> for Selector {
    type Error = SelectorError;

    fn try_from(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(requirement(&expression.key, Some(&expression.operator), values)?);
        }
        Ok(Self::new(requirements))
    }
}

fn requirement(key: &str, operator: Option<&str>, values: Vec<String>) -> Result<Requirement, SelectorError> {
    let operator = operator.unwrap_or_default();
    let known = known_operator(operator).ok_or_else(|| {
        SelectorError(format!("{} is not a valid label selector operator", quote(operator)))
    })?;
    Ok(Requirement::new(key, known, values)?)
}

fn known_operator(name: &str) -> Option<Operator> {
    match name {
        "In" => Some(Operator::In),
        "NotIn" => Some(Operator::NotIn),
        "Exists" => Some(Operator::Exists),
        "DoesNotExist" => Some(Operator::DoesNotExist),
        _ => None,
    }
}

fn strings(values: &Value) -> Vec<String> {
    values.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What [`validate_label_selector`] lets pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelSelectorOptions {
    /// Values that no label can have, where they were stored before the rule came.
    pub allow_invalid_values: bool,
    /// Operators nobody knows, where a broader check follows.
    pub allow_unknown_operators: bool,
}

/// What is wrong with a LabelSelector; null is fine.
pub fn validate_label_selector(selector: &Value, options: LabelSelectorOptions, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(labels) = selector["matchLabels"].as_object() {
        errors.extend(validate_labels(labels, &path.child("matchLabels")));
    }
    for (i, expression) in selector["matchExpressions"].as_array().into_iter().flatten().enumerate() {
        let at = path.child("matchExpressions").index(i);
        errors.extend(validate_expression(expression, options, &at));
    }
    errors
}

fn validate_expression(expression: &Value, options: LabelSelectorOptions, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let values = strings(&expression["values"]);
    let operator = expression["operator"].as_str().unwrap_or_default();
    match known_operator(operator) {
        Some(Operator::In | Operator::NotIn) if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&path.child("values"), detail));
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&path.child("values"), detail));
        }
        None if !options.allow_unknown_operators => {
            errors.push(Error::invalid(&path.child("operator"), operator, "not a valid selector operator"));
        }
        _ => {}
    }
    let key = expression["key"].as_str().unwrap_or_default();
    errors.extend(validate_label_name(key, &path.child("key")));
    if !options.allow_invalid_values {
        for (i, value) in values.iter().enumerate() {
            let at = path.child("values").index(i);
            errors.extend(label_value(value).into_iter().map(|wrong| Error::invalid(&at, value, wrong)));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absence_matches_nothing_and_emptiness_everything() {
        let labels = json!({"a": "b"});
        let matches =
            |selector: Option<&Value>| Selector::from_label_selector(selector).map(|s| s.matches(&labels));
        assert_eq!(matches(None), Ok(false));
        assert_eq!(matches(Some(&json!(null))), Ok(false));
        assert_eq!(matches(Some(&json!({}))), Ok(true));
        let both = json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "DoesNotExist"}, {"key": "a", "operator": "In", "values": ["b", "x"]}]
        });
        assert_eq!(matches(Some(&both)), Ok(true));
        let typed: LabelSelector = serde_json::from_value(both).expect("a label selector");
        assert_eq!(Selector::try_from(&typed).map(|s| s.to_string()), Ok("a=b,a in (b,x),!c".to_owned()));
    }

    #[test]
    fn operators_are_checked() {
        let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]});
        assert_eq!(
            Selector::from_label_selector(Some(&wrong)).map_err(|error| error.to_string()),
            Err("\"Gt\" is not a valid label selector operator".to_owned())
        );
        let errors = validate_label_selector(&wrong, LabelSelectorOptions::default(), &Path::new("s"));
        assert_eq!(
            errors.to_string(),
            "s.matchExpressions[0].operator: Invalid value: \"Gt\": not a valid selector operator"
        );
    }
}
