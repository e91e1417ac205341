//! One step of a field path, and its text in fieldsV1: `f:name`, `k:{"name":"web"}`, `v:"a"`, `i:3`.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

use crate::field::quote;

use super::value::compare;

/// One step of a field path.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A field of an object or an entry of a map.
    Field(Box<str>),
    /// An item of a list, by the values of its key fields, sorted by name.
    Key(Vec<(Box<str>, Value)>),
    /// An item of a set, by itself.
    Value(Value),
    /// An item of a list, by its position.
    Index(i64),
}

/// Why a text is no path element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathElementError {
    #[error("key must be 2 characters long:")]
    Short,
    #[error("missing colon: {0}")]
    NoColon(String),
    /// To be ignored: a later version may know what it is.
    #[error("unknown path element type")]
    Unknown,
    #[error("parsing key as path element: {0}")]
    Malformed(String),
}

impl PathElement {
    pub fn field(name: impl Into<Box<str>>) -> Self {
        Self::Field(name.into())
    }

    /// Reads an element as fieldsV1 has it.
    ///
    /// # Errors
    /// [`PathElementError::Unknown`] for a kind of element that does not exist yet, others for what is malformed.
    pub fn parse(text: &str) -> Result<Self, PathElementError> {
        let malformed = |error: &dyn fmt::Display| PathElementError::Malformed(error.to_string());
        if text.len() < 2 {
            return Err(PathElementError::Short);
        }
        let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
            return Err(PathElementError::NoColon(text.to_owned()));
        };
        match kind {
            "f" => Ok(Self::field(rest)),
            "v" => Ok(Self::Value(serde_json::from_str(rest).map_err(|error| malformed(&error))?)),
            "k" => {
                let fields: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|error| malformed(&error))?;
                Ok(Self::key(
                    fields.into_iter().map(|(name, value)| (name.into_boxed_str(), value)).collect(),
                ))
            }
            "i" => Ok(Self::Index(rest.parse().map_err(|error: std::num::ParseIntError| malformed(&error))?)),
            _ => Err(PathElementError::Unknown),
        }
    }

    /// The element for these key fields.
    pub(super) fn key(mut fields: Vec<(Box<str>, Value)>) -> Self {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Key(fields)
    }

    /// The text in fieldsV1.
    pub fn serialize(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
            Self::Key(fields) => {
                let fields = fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(&**name)));
                format!("k:{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let fields = a.iter().zip(b).map(|(a, b)| a.0.cmp(&b.0).then_with(|| compare(&a.1, &b.1)));
                fields.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

/// As conflicts show it: `.spec`, `[name="web"]`, `[="a"]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={}]", Shown(value)),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(fields) => {
                f.write_str("[")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}={}", if i > 0 { "," } else { "" }, Shown(value))?;
                }
                f.write_str("]")
            }
        }
    }
}

struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => f.write_str(&quote(text)),
            other => other.fmt(f),
        }
    }
}

/// A path as conflicts show it.
pub(super) fn show_path(path: &[PathElement]) -> String {
    path.iter().map(PathElement::to_string).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_survive_their_text() {
        for (text, shown) in [
            ("f:spec", ".spec"),
            ("f:a.b/c:d", ".a.b/c:d"),
            (r#"k:{"containerPort":80,"protocol":"TCP"}"#, r#"[containerPort=80,protocol="TCP"]"#),
            (r#"v:"a""#, r#"[="a"]"#),
            ("i:3", "[3]"),
        ] {
            let element = PathElement::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((element.serialize().as_str(), element.to_string().as_str()), (text, shown));
        }
        assert_eq!(PathElement::parse("x:1"), Err(PathElementError::Unknown));
        assert_eq!(PathElement::parse("f"), Err(PathElementError::Short));
        assert!(PathElement::parse("k:[").is_err() && PathElement::parse("\u{e9}x:").is_err());
    }

    #[test]
    fn elements_are_ordered_by_kind_then_value() {
        let ordered = ["f:a", "f:b", r#"k:{"n":2}"#, r#"k:{"n":10}"#, r#"k:{"n":"a"}"#, "v:1", "i:0"];
        let parsed = ordered.map(|text| PathElement::parse(text).expect("valid"));
        assert!(parsed.is_sorted());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails(text in "[fkvi]:.*|.*") {
            if let Ok(element) = PathElement::parse(&text) {
                prop_assert_eq!(PathElement::parse(&element.serialize()), Ok(element));
            }
        }
    }
}
