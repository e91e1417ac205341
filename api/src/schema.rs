//! The type table: what every field of every kind is, where it may be missing, how lists and maps merge, and which
//! protobuf field carries it.
//!
//! Types of built-in kinds are parsed from the embedded facts when first asked for and then live for ever; types of
//! custom resources are made at run time and shared by reference count. [`TypeRef`] hides which it is.

mod builtin;
mod facts;

use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value;

use crate::gvk::{GroupVersionKind, Name};

pub use builtin::{all, by_gvk, by_name};

/// A struct (or a choice of shapes) with a name.
#[derive(Debug, Default)]
pub struct Type {
    /// The full OpenAPI name, `io.k8s.api.core.v1.Pod`; empty for an anonymous struct inside a custom resource.
    pub name: Name,
    /// Set for kinds that travel on their own.
    pub gvk: Option<GroupVersionKind>,
    /// The fields in the order they are declared. Use [`Type::field`] to find one.
    pub fields: Box<[Field]>,
    /// Positions in `fields`, sorted by field name.
    by_name: Box<[u16]>,
    /// Positions in `fields` of those with a wire, in the order upstream writes them.
    by_wire: Box<[u16]>,
    /// Server-side apply replaces the struct as a whole.
    pub atomic: bool,
    /// At most one of the fields may be set.
    pub union: Option<Union>,
    /// Whether the type stands in the published OpenAPI documents.
    pub published: bool,
    /// Whether the type has a protobuf message.
    pub protobuf: bool,
    /// What becomes of fields that are not in `fields`.
    pub unknown: UnknownFields,
    /// The JSON forms of a type that is no struct, such as `JSONSchemaPropsOrBool`; empty for structs.
    pub one_of: Box<[OneOf]>,
}

impl Type {
    /// A struct with these fields and no other property; set the rest with struct update syntax or by hand.
    pub fn with_fields(name: impl Into<Name>, fields: Vec<Field>) -> Self {
        let mut by_name: Vec<u16> = (0..fields.len().min(usize::from(u16::MAX)) as u16).collect();
        by_name.sort_by(|a, b| fields[usize::from(*a)].name.cmp(&fields[usize::from(*b)].name));
        Self {
            name: name.into(),
            by_wire: wire_order(&fields),
            by_name: by_name.into_boxed_slice(),
            fields: fields.into_boxed_slice(),
            ..Self::default()
        }
    }

    /// The field with this exact JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.field_index(name).map(|index| &self.fields[index])
    }

    /// The position in `fields` of the field with this exact JSON name.
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.by_name
            .binary_search_by(|index| self.fields[usize::from(*index)].name.as_ref().cmp(name))
            .ok()
            .map(|position| usize::from(self.by_name[position]))
    }

    /// The fields that protobuf carries, by ascending number; those of embedded structs stand together.
    pub fn wire_fields(&self) -> impl Iterator<Item = &Field> {
        self.by_wire.iter().map(|index| &self.fields[usize::from(*index)])
    }

    /// The last part of the name: `Pod` of `io.k8s.api.core.v1.Pod`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

fn wire_order(fields: &[Field]) -> Box<[u16]> {
    let mut numbered: Vec<(Vec<u32>, u16)> = fields
        .iter()
        .zip(0..)
        .filter_map(|(field, index)| {
            let wire = field.wire.as_ref()?;
            Some((wire.via.iter().copied().chain([wire.number]).collect(), index))
        })
        .collect();
    numbered.sort();
    numbered.into_iter().map(|(_, index)| index).collect()
}

/// One member of a struct, by its JSON name. Members of structs embedded in Go stand beside the others, as in JSON.
#[derive(Debug)]
pub struct Field {
    pub name: Name,
    pub shape: Shape,
    /// Must be present in OpenAPI's sense. Not the opposite of `omit`.
    pub required: bool,
    /// When the encoder leaves the field out.
    pub omit: Omit,
    /// A pointer in Go: null and absent differ from the zero value.
    pub pointer: bool,
    /// Overrides what the struct's own type says about server-side apply's atomicity.
    pub atomic: Option<bool>,
    pub patch: PatchStrategy,
    /// Key that identifies an element of a list merged by a strategic merge patch.
    pub patch_merge_key: Option<Name>,
    /// The default declared at the field itself, as JSON.
    pub default: Option<Value>,
    /// The closed set of strings allowed in the field (or in its elements); empty when open.
    pub enumeration: Box<[Name]>,
    /// Feature gates without which the field is dropped, separated by commas.
    pub gate: Option<Name>,
    /// None for fields that have no place in protobuf, such as `kind`.
    pub wire: Option<Wire>,
}

impl Field {
    /// An optional field of this name and shape without any other property.
    pub fn new(name: impl Into<Name>, shape: Shape) -> Self {
        Self {
            name: name.into(),
            shape,
            required: false,
            omit: Omit::Empty,
            pointer: false,
            atomic: None,
            patch: PatchStrategy::default(),
            patch_merge_key: None,
            default: None,
            enumeration: Box::default(),
            gate: None,
            wire: None,
        }
    }

    /// Whether server-side apply owns the field's value as a whole.
    pub fn is_atomic(&self) -> bool {
        match &self.shape {
            Shape::Struct(of) => self.atomic.unwrap_or(of.atomic),
            Shape::Map(map) => map.atomic,
            Shape::List(list) => list.kind == ListKind::Atomic,
            _ => true,
        }
    }
}

/// The form of a value.
#[derive(Clone, Debug)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    /// A JSON number with a fraction (Go float64).
    Number,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// Go's `1h0m0s`.
    Duration,
    Quantity,
    IntOrString,
    /// Any JSON value.
    Any,
    /// A JSON object that nothing is known about (`RawExtension`, `FieldsV1`).
    Object,
    /// One of several forms, see [`Type::one_of`].
    OneOf(TypeRef),
    Struct(TypeRef),
    List(Arc<List>),
    Map(Arc<Map>),
}

/// A JSON array.
#[derive(Debug)]
pub struct List {
    pub item: Shape,
    pub kind: ListKind,
    /// Names of the fields that identify an item of a [`ListKind::Map`].
    pub keys: Box<[Name]>,
    /// Whether `kind` is declared; lists are atomic when nothing is, but OpenAPI does not say so then.
    pub declared: bool,
    /// Elements are pointers in Go: null elements are kept.
    pub pointers: bool,
}

/// How server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    Map,
}

/// A JSON object with arbitrary keys and values of one shape.
#[derive(Debug)]
pub struct Map {
    pub value: Shape,
    /// Server-side apply replaces the map as a whole.
    pub atomic: bool,
}

/// When the encoder leaves a field out, as Go's JSON tags say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Omit {
    #[default]
    Never,
    /// `omitempty`: false, 0, "", null, and empty lists and maps; never a struct that is no pointer.
    Empty,
    /// `omitzero`: also a struct whose fields are all zero.
    Zero,
}

/// What a strategic merge patch does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists are merged by `patch_merge_key` (or as sets of scalars) and not replaced.
    pub merge: bool,
    /// Keys missing from `$retainKeys` are cleared.
    pub retain_keys: bool,
    /// Replaced even where the default would merge.
    pub replace: bool,
}

/// A union of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Union {
    /// The field that tells which member is set, if there is one.
    pub discriminator: Option<Name>,
}

/// What becomes of fields that a struct does not declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UnknownFields {
    #[default]
    Prune,
    Keep,
}

/// One JSON form of a type that has several.
#[derive(Debug)]
pub struct OneOf {
    pub shape: Shape,
    /// Number of the protobuf field that carries this form.
    pub number: u32,
}

/// Where a field stands in protobuf. Repeated and map follow from the field's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    pub number: u32,
    pub kind: WireKind,
    /// Numbers of the enclosing messages of an embedded Go struct, outermost first: JSON is flat there, protobuf not.
    pub via: Box<[u32]>,
    /// Lists (or map values that are lists) are messages with `repeated items = 1`.
    pub wrapped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireKind {
    Varint,
    Fixed64,
    Bytes,
}

/// A cheap handle to a [`Type`]: a number for a built-in one, a reference count for one made at run time.
#[derive(Clone, Debug)]
pub enum TypeRef {
    Builtin(builtin::TypeId),
    Owned(Arc<Type>),
}

impl TypeRef {
    /// Whether both refer to the same type, not merely to equal ones.
    pub fn is(&self, other: &TypeRef) -> bool {
        std::ptr::eq::<Type>(&**self, &**other)
    }
}

impl Deref for TypeRef {
    type Target = Type;

    fn deref(&self) -> &Type {
        match self {
            TypeRef::Builtin(id) => id.get(),
            TypeRef::Owned(of) => of,
        }
    }
}

impl From<Type> for TypeRef {
    fn from(of: Type) -> Self {
        TypeRef::Owned(Arc::new(of))
    }
}
