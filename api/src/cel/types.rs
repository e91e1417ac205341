//! Types of expressions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::schema::ListKind;

/// A type.
#[derive(Clone, Debug)]
pub enum Type {
    /// Anything; checked when evaluated.
    Dyn,
    /// What an expression with a fault has.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// The type of a type.
    Type(Option<Arc<Type>>),
    List(Arc<ListType>),
    /// Key and value.
    Map(Arc<(Type, Type)>),
    Optional(Arc<Type>),
    /// Named fields.
    Object(Arc<Object>),
    /// A type of a library, such as `kubernetes.Quantity`.
    Opaque(&'static str),
    /// A variable of a signature or of the checker.
    Var(u32),
}

/// A list and how its items are told apart: `+` and `==` on sets and maps do not look at the order.
#[derive(Clone, Debug)]
pub struct ListType {
    pub item: Type,
    pub kind: ListKind,
    pub keys: Vec<String>,
}

/// An object with known fields.
#[derive(Debug, Default)]
pub struct Object {
    pub name: String,
    /// By the name expressions use.
    pub fields: BTreeMap<String, Field>,
    /// Fields that are not listed are there too, and may be anything.
    pub open: bool,
}

#[derive(Clone, Debug)]
pub struct Field {
    /// The member of the JSON object.
    pub json: Box<str>,
    pub of: Type,
}

impl Type {
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(ListType { item, kind: ListKind::Atomic, keys: Vec::new() }))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    pub fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, Type)>) -> Self {
        let field = |(name, of): (&'static str, Type)| (name.to_owned(), Field { json: name.into(), of });
        let fields = fields.into_iter().map(field).collect();
        Self::Object(Arc::new(Object { name: name.to_owned(), fields, open: false }))
    }

    pub(super) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Whether values have a size that does not depend on the data.
    pub(super) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            Self::Optional(of) => of.is_scalar(),
            _ => false,
        }
    }

    /// The type's name without its parameters, as `type()` gives it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Error => "!error!",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Object(object) => &object.name,
            Self::Opaque(name) => name,
            Self::Var(_) => "_var",
        }
    }
}

/// Whether both are the same type; how items of a list are told apart is no part of it.
impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a.item == b.item,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b) || a.name == b.name,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Var(a), Self::Var(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

/// As messages show types.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::Type(Some(of)) => write!(f, "type({of})"),
            Self::List(list) => write!(f, "list({})", list.item),
            Self::Map(map) => write!(f, "map({}, {})", map.0, map.1),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Var(id) => write!(f, "_var{id}"),
            other => f.write_str(other.name()),
        }
    }
}
