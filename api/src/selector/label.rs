//! Label selectors: a conjunction of requirements.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde_json::{Map, Value};

use crate::field::{Error, ErrorList, Path};
use crate::names::{label_value, qualified_name};

/// A set of labels to match against.
pub trait Labels {
    /// The value of the label `key`.
    fn get(&self, key: &str) -> Option<&str>;
}

impl Labels for Map<String, Value> {
    fn get(&self, key: &str) -> Option<&str> {
        Map::get(self, key).and_then(Value::as_str)
    }
}

/// The labels of a value: of an object its string entries, of anything else none.
impl Labels for Value {
    fn get(&self, key: &str) -> Option<&str> {
        Value::get(self, key).and_then(Value::as_str)
    }
}

impl Labels for BTreeMap<String, String> {
    fn get(&self, key: &str) -> Option<&str> {
        BTreeMap::get(self, key).map(String::as_str)
    }
}

impl Labels for HashMap<String, String> {
    fn get(&self, key: &str) -> Option<&str> {
        HashMap::get(self, key).map(String::as_str)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Labels for [(K, V)] {
    fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| name.as_ref() == key).map(|(_, value)| value.as_ref())
    }
}

impl<T: Labels + ?Sized> Labels for &T {
    fn get(&self, key: &str) -> Option<&str> {
        T::get(self, key)
    }
}

impl<T: Labels> Labels for Option<T> {
    fn get(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.get(key))
    }
}

/// How a requirement relates its key to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    GreaterThan,
    LessThan,
    Exists,
    DoesNotExist,
}

/// Why a selector is refused; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(super) String);

impl From<ErrorList> for SelectorError {
    fn from(errors: ErrorList) -> Self {
        Self(errors.to_string())
    }
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
    /// The value of `GreaterThan` and `LessThan`.
    bound: i64,
}

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    /// What is wrong with key, number of values, or values, all of it.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, ErrorList> {
        let mut errors = ErrorList::new();
        errors.extend(invalid_key(key, &Path::new("key")));
        let at = Path::new("values");
        errors.extend(wrong_count(operator, &values, &at));
        let mut bound = 0;
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            for (i, value) in values.iter().enumerate() {
                match value.parse() {
                    Ok(number) => bound = number,
                    Err(_) => {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        errors.push(Error::invalid(&at.index(i), value, detail));
                    }
                }
            }
        }
        for (i, value) in values.iter().enumerate() {
            let wrong = label_value(value);
            if !wrong.is_empty() {
                let at = at.index(i).key(key.to_owned());
                errors.push(Error::invalid(&at, value, wrong.join("; ")));
            }
        }
        errors.into_result()?;
        Ok(Self { key: key.to_owned(), operator, values, bound })
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether `labels` fulfil the requirement.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let found = labels.get(&self.key);
        let has = |value: &str| self.values.iter().any(|wanted| wanted == value);
        let number = || found.and_then(|value| value.parse::<i64>().ok());
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => found.is_some_and(has),
            Operator::NotIn | Operator::NotEquals => !found.is_some_and(has),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::GreaterThan => number().is_some_and(|number| number > self.bound),
            Operator::LessThan => number().is_some_and(|number| number < self.bound),
        }
    }
}

pub(super) fn invalid_key(key: &str, path: &Path) -> Option<Error> {
    let wrong = qualified_name(key);
    (!wrong.is_empty()).then(|| Error::invalid(path, key, wrong.join("; ")))
}

fn wrong_count(operator: Operator, values: &[String], at: &Path) -> Option<Error> {
    let detail = match (operator, values.len()) {
        (Operator::In | Operator::NotIn, 0) => "for 'in', 'notin' operators, values set can't be empty",
        (Operator::Equals | Operator::DoubleEquals | Operator::NotEquals, n) if n != 1 => {
            "exact-match compatibility requires one single value"
        }
        (Operator::Exists | Operator::DoesNotExist, n) if n != 0 => {
            "values set must be empty for exists and does not exist"
        }
        (Operator::GreaterThan | Operator::LessThan, n) if n != 1 => {
            "for 'Gt', 'Lt' operators, exactly one value is required"
        }
        _ => return None,
    };
    Some(Error::invalid(at, values, detail))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = || {
            let mut sorted: Vec<&str> = self.values.iter().map(String::as_str).collect();
            sorted.sort_unstable();
            sorted.join(",")
        };
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={}", values()),
            Operator::DoubleEquals => write!(f, "{key}=={}", values()),
            Operator::NotEquals => write!(f, "{key}!={}", values()),
            Operator::GreaterThan => write!(f, "{key}>{}", values()),
            Operator::LessThan => write!(f, "{key}<{}", values()),
            Operator::In => write!(f, "{key} in ({})", values()),
            Operator::NotIn => write!(f, "{key} notin ({})", values()),
        }
    }
}

/// Which labels are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Nothing matches.
    Nothing,
    /// Labels match that fulfil all requirements, which are sorted by key. Without requirements all match.
    All(Vec<Requirement>),
}

impl Selector {
    /// The selector that every object matches.
    pub const fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// A selector of checked requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self::All(requirements)
    }

    /// The selector for exactly these labels. They are not checked: values that no object can have match none.
    pub fn from_set<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let equals = |(key, value): (&str, &str)| Requirement {
            key: key.to_owned(),
            operator: Operator::Equals,
            values: vec![value.to_owned()],
            bound: 0,
        };
        Self::new(labels.into_iter().map(equals).collect())
    }

    /// Whether `labels` fulfil every requirement.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|requirement| requirement.matches(labels)),
        }
    }

    /// Whether the selector restricts nothing.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }

    /// The requirements; none where nothing matches.
    pub fn requirements(&self) -> &[Requirement] {
        match self {
            Self::Nothing => &[],
            Self::All(requirements) => requirements,
        }
    }

    /// The one value the label `key` must have, if the selector says so.
    pub fn requires_exact_match(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements().iter().find(|requirement| requirement.key == key)?;
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements().iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}
