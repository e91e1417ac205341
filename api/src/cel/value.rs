//! Values while an expression is evaluated. Those of an object are read where the object stands: nothing is copied
//! or converted before an expression asks for it.

mod compare;
mod json;

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value as Json};

use super::error::EvalError;
use super::library::{Format, Url};
use super::types::{ListType, Type};
use crate::quantity::Quantity;

/// A value. Clones are cheap.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Rc<[u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Rc<Value<'a>>>),
    /// A type, by its name.
    Type(Rc<str>),
    /// A value of one of Kubernetes' libraries.
    Opaque(Rc<Opaque>),
}

/// Text of an object or of an expression, or text that was made.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

#[derive(Clone)]
pub enum List<'a> {
    Json(&'a [Json], &'a ListType),
    Made(Rc<Vec<Value<'a>>>),
}

/// Key and value.
pub type Entry<'a> = (Value<'a>, Value<'a>);

/// A name, and its value if there is one.
pub type Named<'a> = (Box<str>, Result<Value<'a>, EvalError>);

#[derive(Clone)]
pub enum Map<'a> {
    /// With the type of the whole: an object, a map or anything.
    Json(&'a JsonMap<String, Json>, &'a Type),
    Made(Rc<Vec<Entry<'a>>>),
    /// Named values, some of which could not be had.
    Named(Rc<Vec<Named<'a>>>),
    /// Whose other keys all have one value, though it lists and counts only its own.
    Defaulting(Rc<(Vec<Entry<'a>>, Value<'a>)>),
}

/// Values of Kubernetes' libraries.
#[derive(Clone, Debug, PartialEq)]
pub enum Opaque {
    Quantity(Quantity),
    Url(Url),
    Ip(IpAddr),
    /// Address and length of the prefix; the address may have bits behind the prefix.
    Cidr(IpAddr, u8),
    Semver(semver::Version),
    Format(Format),
    /// Whom checks are about: the request's user, or a service account.
    Authorizer(Option<(String, String)>),
    GroupCheck {
        service_account: Option<(String, String)>,
        group: String,
    },
    /// A check that still lacks its verb.
    Check(Box<super::Check>),
    Decision(super::Decision),
}

impl Opaque {
    /// A semantic version.
    ///
    /// # Errors
    /// The text is none.
    pub fn semver(text: &str) -> Result<Self, EvalError> {
        semver::Version::parse(text).map(Self::Semver).map_err(|error| EvalError::failed(error.to_string()))
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::GroupCheck { .. } => "kubernetes.authorization.GroupCheck",
            Self::Check(check) if matches!(check.target, super::CheckTarget::Path(_)) => {
                "kubernetes.authorization.PathCheck"
            }
            Self::Check(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(Text::Made(text.into()))
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<Opaque> for Value<'_> {
    fn from(value: Opaque) -> Self {
        Self::Opaque(Rc::new(value))
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(Rc::new(items)))
    }
}

impl<'a> Value<'a> {
    pub(super) fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    pub(super) const NONE: Value<'static> = Value::Optional(None);

    /// An optional that has a value or has none.
    pub fn optional(value: Option<Value<'a>>) -> Self {
        Self::Optional(value.map(Rc::new))
    }

    /// The name of the value's type.
    pub(super) fn type_name(&self) -> Rc<str> {
        let name = match self {
            Self::Null => Type::Null.name(),
            Self::Bool(_) => Type::Bool.name(),
            Self::Int(_) => Type::Int.name(),
            Self::Uint(_) => Type::Uint.name(),
            Self::Double(_) => Type::Double.name(),
            Self::String(_) => Type::String.name(),
            Self::Bytes(_) => Type::Bytes.name(),
            Self::Timestamp(_) => Type::Timestamp.name(),
            Self::Duration(_) => Type::Duration.name(),
            Self::List(_) => "list",
            Self::Map(Map::Json(_, Type::Object(object))) => &object.name,
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Opaque(value) => value.type_name(),
        };
        name.into()
    }

    /// The size as costs count it: characters, bytes, items or entries, and one for everything else.
    pub(super) fn cost_size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Optional(Some(value)) => value.cost_size(),
            Self::Opaque(value) => match &**value {
                Opaque::Ip(ip) => {
                    if ip.is_ipv4() {
                        4
                    } else {
                        16
                    }
                }
                Opaque::Cidr(_, bits) => u64::from(bits.div_ceil(8)),
                _ => 1,
            },
            _ => 1,
        }
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at an index; none behind the end.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json(items, of) => items.get(index).map(|item| Value::from_json(item, &of.item)),
            Self::Made(items) => items.get(index).cloned().map(Ok),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(super) fn to_vec(&self) -> Result<Vec<Value<'a>>, EvalError> {
        self.iter().collect()
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(members, _) => members.len(),
            Self::Made(entries) => entries.len(),
            Self::Named(members) => members.len(),
            Self::Defaulting(map) => map.0.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key that is text.
    pub fn get_str(&self, key: &str) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json(members, of) => json::member(members, of, key),
            Self::Made(entries) => named(entries, key).cloned().map(Ok),
            Self::Defaulting(map) => Some(Ok(named(&map.0, key).unwrap_or(&map.1).clone())),
            Self::Named(members) => {
                members.iter().find(|(known, _)| **known == *key).map(|(_, value)| value.clone())
            }
        }
    }

    pub fn get(&self, key: &Value<'a>) -> Option<Result<Value<'a>, EvalError>> {
        match (self, key) {
            (_, Value::String(key)) => self.get_str(key),
            (Self::Made(entries), key) => {
                entries.iter().find(|(known, _)| known.equals(key)).map(|(_, value)| Ok(value.clone()))
            }
            _ => None,
        }
    }

    /// Whether the key is one of the map's own.
    pub(super) fn contains(&self, key: &Value<'a>) -> bool {
        match (self, key) {
            (Self::Defaulting(map), Value::String(key)) => named(&map.0, key).is_some(),
            _ => self.get(key).is_some(),
        }
    }

    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(members, _) => members.keys().map(|key| Value::from(key.as_str())).collect(),
            Self::Made(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
            Self::Defaulting(map) => map.0.iter().map(|(key, _)| key.clone()).collect(),
            Self::Named(members) => members.iter().map(|(name, _)| name.to_string().into()).collect(),
        }
    }

    pub(super) fn entries(&self) -> Result<Vec<Entry<'a>>, EvalError> {
        match self {
            Self::Made(entries) => Ok(entries.to_vec()),
            other => other
                .keys()
                .into_iter()
                .filter_map(|key| other.get(&key).map(|value| value.map(|value| (key, value))))
                .collect(),
        }
    }
}

/// The value of a key that is text.
fn named<'m, 'a>(entries: &'m [Entry<'a>], key: &str) -> Option<&'m Value<'a>> {
    entries.iter().find_map(|(known, value)| match known {
        Value::String(known) if **known == *key => Some(value),
        _ => None,
    })
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().flatten()).finish()
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries().into_iter().flatten()).finish()
    }
}
