//! From one line of the facts to a [`Type`]. The lines are generated and every one is parsed by a test, so what is
//! wrong with them is a defect of the build and panics.

use serde::Deserialize;
use serde_json::Value;

use super::{
    Field, List, ListKind, Map, Omit, OneOf, PatchStrategy, Shape, Type, TypeRef, Union, UnknownFields, Wire,
    WireKind, builtin,
};
use crate::gvk::{GroupVersionKind, Name};

#[derive(Deserialize)]
struct TypeFacts {
    #[serde(default)]
    f: Vec<FieldFacts>,
    /// Not published.
    #[serde(default)]
    x: bool,
    map: Option<&'static str>,
    /// The discriminator's name, or true.
    union: Option<Value>,
    #[serde(default)]
    nopb: bool,
    /// Protobuf number and shape of each JSON form.
    #[serde(default, rename = "oneOf")]
    one_of: Vec<(u32, &'static str)>,
}

#[derive(Deserialize)]
struct FieldFacts {
    n: &'static str,
    t: &'static str,
    pb: Option<(u32, &'static str)>,
    #[serde(default)]
    via: Box<[u32]>,
    #[serde(default)]
    wrap: bool,
    #[serde(default)]
    req: bool,
    omit: Option<&'static str>,
    #[serde(default)]
    ptr: bool,
    #[serde(default)]
    eptr: bool,
    list: Option<&'static str>,
    #[serde(default)]
    keys: Vec<&'static str>,
    map: Option<&'static str>,
    ps: Option<&'static str>,
    pmk: Option<&'static str>,
    def: Option<Value>,
    #[serde(default, rename = "enum")]
    enumeration: Vec<&'static str>,
    gate: Option<&'static str>,
}

pub(super) fn parse(name: &'static str, gvk: Option<&'static str>, json: &'static str) -> Type {
    let facts: TypeFacts = serde_json::from_str(json)
        .unwrap_or_else(|error| panic!("facts of type {name} do not parse: {error}"));
    let mut of = Type::with_fields(name, facts.f.into_iter().map(field).collect());
    of.gvk = gvk.map(kind);
    of.atomic = facts.map == Some("atomic");
    of.union = facts
        .union
        .map(|value| Union { discriminator: value.as_str().map(|text| Name::Owned(text.to_owned())) });
    of.published = !facts.x;
    of.protobuf = !facts.nopb;
    of.unknown = UnknownFields::Prune;
    of.one_of =
        facts.one_of.into_iter().map(|(number, text)| OneOf { shape: bare_shape(text), number }).collect();
    of
}

fn kind(gvk: &'static str) -> GroupVersionKind {
    let mut parts = gvk.split('/');
    let mut part = || parts.next().expect("a kind's coordinates have three parts");
    GroupVersionKind::new(part(), part(), part())
}

fn field(facts: FieldFacts) -> Field {
    let atomic_map = facts.map == Some("atomic");
    Field {
        shape: shape(facts.t, &facts),
        name: Name::Borrowed(facts.n),
        required: facts.req,
        omit: match facts.omit {
            None => Omit::Never,
            Some(text) if text.contains("zero") => Omit::Zero,
            Some(_) => Omit::Empty,
        },
        pointer: facts.ptr,
        atomic: facts.map.map(|_| atomic_map),
        patch: patch_strategy(facts.ps.unwrap_or_default()),
        patch_merge_key: facts.pmk.map(Name::Borrowed),
        default: facts.def,
        enumeration: facts.enumeration.into_iter().map(Name::Borrowed).collect(),
        gate: facts.gate.map(Name::Borrowed),
        wire: facts.pb.map(|(number, kind)| Wire {
            number,
            kind: wire_kind(kind),
            via: facts.via,
            wrapped: facts.wrap,
        }),
    }
}

fn patch_strategy(text: &str) -> PatchStrategy {
    let has = |wanted| text.split(',').any(|part| part == wanted);
    PatchStrategy { merge: has("merge"), retain_keys: has("retainKeys"), replace: has("replace") }
}

fn wire_kind(text: &str) -> WireKind {
    match text {
        "varint" => WireKind::Varint,
        "fixed64" => WireKind::Fixed64,
        "bytes" => WireKind::Bytes,
        other => panic!("unknown wire type {other:?}"),
    }
}

/// The shape of a field: its type with the field's own list and map semantics on the outermost level.
fn shape(text: &'static str, facts: &FieldFacts) -> Shape {
    if let Some(item) = text.strip_prefix("[]") {
        let kind = match facts.list {
            Some("set") => ListKind::Set,
            Some("map") => ListKind::Map,
            _ => ListKind::Atomic,
        };
        let keys = facts.keys.iter().map(|key| Name::Borrowed(*key)).collect();
        return Shape::List(
            List { item: bare_shape(item), kind, keys, declared: facts.list.is_some(), pointers: facts.eptr }
                .into(),
        );
    }
    if let Some(value) = text.strip_prefix("{}") {
        return Shape::Map(Map { value: bare_shape(value), atomic: facts.map == Some("atomic") }.into());
    }
    bare_shape(text)
}

fn bare_shape(text: &'static str) -> Shape {
    if let Some(item) = text.strip_prefix("[]") {
        let keys = Box::default();
        return Shape::List(
            List { item: bare_shape(item), kind: ListKind::Atomic, keys, declared: false, pointers: false }
                .into(),
        );
    }
    if let Some(value) = text.strip_prefix("{}") {
        return Shape::Map(Map { value: bare_shape(value), atomic: false }.into());
    }
    if let Some(name) = text.strip_prefix('&') {
        return reference(name);
    }
    match text {
        "string" => Shape::String,
        "boolean" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" | "int" => Shape::Int64,
        "double" => Shape::Number,
        "byte" => Shape::Bytes,
        "any" => Shape::Any,
        other => panic!("unknown shape {other:?}"),
    }
}

fn reference(name: &'static str) -> Shape {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Shape::Time,
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Shape::MicroTime,
        "io.k8s.apimachinery.pkg.apis.meta.v1.Duration" => Shape::Duration,
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrString,
        "io.k8s.apimachinery.pkg.runtime.RawExtension" | "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => {
            Shape::Object
        }
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON" => Shape::Any,
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray"
        | "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"
        | "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => {
            Shape::OneOf(known(name))
        }
        _ => Shape::Struct(known(name)),
    }
}

fn known(name: &str) -> TypeRef {
    builtin::by_name(name).unwrap_or_else(|| panic!("the facts refer to {name}, which they do not hold"))
}
