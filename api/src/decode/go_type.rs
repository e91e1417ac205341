//! The Go names that error messages mention.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::schema::{Field, Shape, Type};

/// `full type name TAB {json}`, only for what cannot be derived from a field's shape.
static FACTS: &str = include_str!("../../facts/gotypes.jsonl");

static TABLE: LazyLock<HashMap<&'static str, Names>> = LazyLock::new(|| {
    let parse = |line: &'static str| {
        let (name, json) = line.split_once('\t').expect("the generator writes two columns");
        (name, serde_json::from_str(json).expect("the generator writes records of this form"))
    };
    FACTS.lines().map(parse).collect()
});

#[derive(Default, Deserialize)]
struct Names {
    /// Go types of fields.
    #[serde(default, borrow)]
    t: HashMap<&'static str, &'static str>,
    /// Embedded structs that a field stands in, outermost first.
    #[serde(default, borrow)]
    e: HashMap<&'static str, Vec<&'static str>>,
}

/// The Go type of what lies `nesting` lists and maps inside a field; `shape` is the shape there.
pub(super) fn of_field(owner: &Type, field: &Field, nesting: usize, shape: &Shape) -> String {
    let named = TABLE.get(owner.name.as_ref()).and_then(|names| names.t.get(field.name.as_ref()));
    match named.and_then(|name| peel(name, nesting)) {
        Some(name) => name.to_owned(),
        None => of_shape(shape),
    }
}

/// The names of the embedded structs between a struct and its field.
pub(super) fn embedded(owner: &Type, field: &Field) -> &'static [&'static str] {
    if field.wire.is_none() && owner.gvk.is_some() && matches!(field.name.as_ref(), "kind" | "apiVersion") {
        return &["TypeMeta"];
    }
    let names = TABLE.get(owner.name.as_ref()).and_then(|names| names.e.get(field.name.as_ref()));
    names.map_or(&[], Vec::as_slice)
}

/// `[]v1.Foo` without its outermost lists and maps; None for a named collection, whose elements it does not tell.
fn peel(name: &str, nesting: usize) -> Option<&str> {
    if nesting == 0 {
        return Some(name);
    }
    let element = match name.strip_prefix("[]") {
        Some(element) => element,
        None => name.strip_prefix("map[")?.split_once(']')?.1,
    };
    peel(element, nesting - 1)
}

pub(super) fn of_shape(shape: &Shape) -> String {
    match shape {
        Shape::String | Shape::Time | Shape::MicroTime | Shape::Duration => "string".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::Int32 | Shape::IntOrString => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::Any => "interface {}".to_owned(),
        Shape::Object => "runtime.RawExtension".to_owned(),
        Shape::OneOf(of) | Shape::Struct(of) => of_type(of),
        Shape::List(list) => format!("[]{}", of_shape(&list.item)),
        Shape::Map(map) => format!("map[string]{}", of_shape(&map.value)),
    }
}

/// `v1.Pod`: the package's last part and the type's name.
pub(super) fn of_type(of: &Type) -> String {
    let mut parts = of.name.rsplitn(3, '.');
    let name = parts.next().unwrap_or_default();
    match parts.next() {
        Some(package) => format!("{package}.{name}"),
        None => name.to_owned(),
    }
}
