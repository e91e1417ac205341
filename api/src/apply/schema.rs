//! What apply needs to know of a type: which values have parts that can be owned, and how items are told apart.

use serde_json::Value;

use crate::field::quote;
use crate::schema::{Field, List, ListKind, Shape, Type, UnknownFields};

use super::element::PathElement;

/// The schema of one value.
#[derive(Clone, Copy)]
pub(super) enum Schema<'a> {
    Struct {
        of: &'a Type,
        atomic: bool,
    },
    Map {
        value: &'a Shape,
        atomic: bool,
    },
    List(&'a List),
    Scalar(Scalar),
    /// An object with unknown content.
    Object,
    /// Anything, by what it is: objects have parts, lists do not.
    Deduced,
    /// Anything, as a whole.
    Untyped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    String,
    Numeric,
    Boolean,
    Any,
}

/// How a value is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Scalar,
    List,
    Map,
}

impl<'a> Schema<'a> {
    /// The schema of a whole object.
    pub fn root(of: &'a Type) -> Self {
        Self::Struct { of, atomic: of.atomic }
    }

    fn of(shape: &'a Shape) -> Self {
        match shape {
            Shape::Struct(of) => Self::root(of),
            Shape::Map(map) => Self::Map { value: &map.value, atomic: map.atomic },
            Shape::List(list) => Self::List(list),
            Shape::Object => Self::Object,
            Shape::Any | Shape::OneOf(_) => Self::Untyped,
            Shape::Bool => Self::Scalar(Scalar::Boolean),
            Shape::Int32 | Shape::Int64 | Shape::Number => Self::Scalar(Scalar::Numeric),
            Shape::Quantity | Shape::IntOrString => Self::Scalar(Scalar::Any),
            Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Duration => {
                Self::Scalar(Scalar::String)
            }
        }
    }

    fn of_field(field: &'a Field) -> Self {
        match Self::of(&field.shape) {
            Self::Struct { of, .. } => Self::Struct { of, atomic: field.is_atomic() },
            other => other,
        }
    }

    /// The schema of the entry `name`; none where a struct does not declare it.
    pub fn field(self, name: &str) -> Option<Self> {
        match self {
            Self::Struct { of, .. } => match of.field(name) {
                Some(field) => Some(Self::of_field(field)),
                None => (of.unknown == UnknownFields::Keep).then_some(Self::Deduced),
            },
            Self::Map { value, .. } => Some(Self::of(value)),
            Self::Object | Self::Deduced => Some(Self::Deduced),
            Self::Untyped => Some(Self::Untyped),
            Self::List(_) | Self::Scalar(_) => None,
        }
    }

    /// Whether a struct declares the field.
    pub fn declares(self, name: &str) -> bool {
        matches!(self, Self::Struct { of, .. } if of.field(name).is_some())
    }

    /// The schema of a list's items.
    pub fn item(self) -> Option<Self> {
        match self {
            Self::List(list) => Some(Self::of(&list.item)),
            Self::Deduced | Self::Untyped => Some(Self::Untyped),
            _ => None,
        }
    }

    /// How `value` is walked. Null takes the form the schema prefers.
    pub fn form(self, value: Option<&Value>) -> Form {
        match self {
            Self::Struct { .. } | Self::Map { .. } | Self::Object => Form::Map,
            Self::List(_) => Form::List,
            Self::Scalar(_) => Form::Scalar,
            Self::Deduced | Self::Untyped => match value {
                None | Some(Value::Null | Value::Object(_)) => Form::Map,
                Some(Value::Array(_)) => Form::List,
                Some(_) => Form::Scalar,
            },
        }
    }

    /// Whether a value of this form is owned as a whole.
    pub fn is_atomic(self, form: Form) -> bool {
        match self {
            Self::Struct { atomic, .. } | Self::Map { atomic, .. } => atomic,
            Self::List(list) => list.kind == ListKind::Atomic,
            Self::Scalar(_) | Self::Untyped => true,
            Self::Object => false,
            Self::Deduced => form != Form::Map,
        }
    }

    /// What tells an item of the list apart.
    ///
    /// # Errors
    /// The item has no key, or is nothing a set can hold.
    pub fn element(self, item: &Value) -> Result<PathElement, String> {
        let Self::List(list) = self else {
            return Err("invalid indexing of non-associative list".to_owned());
        };
        match list.kind {
            ListKind::Atomic => Err("invalid indexing of non-associative list".to_owned()),
            ListKind::Map => keyed(list, item),
            ListKind::Set => match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".to_owned())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".to_owned())
                }
                scalar => Ok(PathElement::Value(scalar.clone())),
            },
        }
    }
}

fn keyed(list: &List, item: &Value) -> Result<PathElement, String> {
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let default = |name: &str| match &list.item {
        Shape::Struct(of) => of.field(name).and_then(|field| field.default.clone()),
        _ => None,
    };
    let mut key = Vec::with_capacity(list.keys.len());
    for name in &list.keys {
        if let Some(value) = fields.get(name.as_ref()).cloned().or_else(|| default(name)) {
            key.push((Box::from(name.as_ref()), value));
        }
    }
    if key.is_empty() && !list.keys.is_empty() {
        let names: Vec<String> = list.keys.iter().map(|name| quote(name)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    Ok(PathElement::key(key))
}
