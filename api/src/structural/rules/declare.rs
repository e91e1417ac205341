//! From a schema to the type of its values in expressions, and how large they can become.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cel::{Field, ListType, Object, Sizes, Type, escape};
use crate::schema::ListKind;
use crate::structural::{Additional, Form, Structural};

const MAX_REQUEST: i64 = 3 * 1024 * 1024;
const MIN_STRING: i64 = 2;
const MAX_TIME: i64 = 32;
const DATE: i64 = 12;
const MIN_TIME: i64 = 21;
const MIN_DURATION: i64 = 3;

/// A type with what is below it.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub of: Type,
    pub sizes: Sizes,
    /// The fewest bytes of JSON.
    pub min_size: i64,
    pub items: Option<Box<Declared>>,
    /// By the names of the properties.
    pub fields: BTreeMap<String, Declared>,
}

impl Declared {
    fn scalar(of: Type, min_size: i64, max: i64) -> Self {
        let sizes = Sizes { max: u64::try_from(max).unwrap_or(0), ..Sizes::default() };
        Self { of, sizes, min_size, items: None, fields: BTreeMap::new() }
    }
}

/// The type of the values of a schema; none where nothing is known of them. A root has what every object has.
pub(super) fn declare(schema: &Structural, is_root: bool, name: &str) -> Option<Declared> {
    if schema.int_or_string {
        let max = schema.constraints().max_length.map_or(MAX_REQUEST - 2, |max| max.max(0) * 4);
        return Some(Declared::scalar(Type::Dyn, 1, max));
    }
    match schema.form? {
        Form::Array => list(schema, name),
        Form::Object => match &schema.additional {
            Some(Additional::Of(value)) => map(schema, value, name),
            _ => Some(object(schema, is_root, name)),
        },
        Form::String => Some(text(schema)),
        Form::Boolean => Some(Declared::scalar(Type::Bool, 4, 0)),
        Form::Number => Some(Declared::scalar(Type::Double, 1, 0)),
        Form::Integer => Some(Declared::scalar(Type::Int, 1, 0)),
    }
}

fn list(schema: &Structural, name: &str) -> Option<Declared> {
    let items = schema.items.as_deref()?;
    let item = declare(items, items.embedded, &format!("{name}.@idx"))?;
    let max =
        schema.constraints().max_items.map_or((MAX_REQUEST - 2) / (item.min_size + 1), |max| max.max(0));
    let of = ListType {
        item: item.of.clone(),
        kind: schema.list_type.unwrap_or(ListKind::Atomic),
        keys: schema.list_map_keys.clone(),
    };
    let sizes = Sizes {
        max: u64::try_from(max).unwrap_or(0),
        items: Some(Box::new(item.sizes.clone())),
        ..Sizes::default()
    };
    let of = Type::List(Arc::new(of));
    Some(Declared { of, sizes, min_size: 2, items: Some(Box::new(item)), fields: BTreeMap::new() })
}

fn map(schema: &Structural, value: &Structural, name: &str) -> Option<Declared> {
    let value = declare(value, value.embedded, &format!("{name}.@elem"))?;
    let max = schema
        .constraints()
        .max_properties
        .map_or((MAX_REQUEST - 2) / (value.min_size + 6), |max| max.max(0));
    let sizes = Sizes {
        max: u64::try_from(max).unwrap_or(0),
        items: Some(Box::new(value.sizes.clone())),
        keys: Some(Box::new(Sizes { max: u64::MAX >> 1, ..Sizes::default() })),
        ..Sizes::default()
    };
    let of = Type::map(Type::String, value.of.clone());
    Some(Declared { of, sizes, min_size: 2, items: Some(Box::new(value)), fields: BTreeMap::new() })
}

fn object(schema: &Structural, is_root: bool, name: &str) -> Declared {
    let mut known: BTreeMap<String, Declared> = BTreeMap::new();
    for (field, property) in &schema.properties {
        if let Some(of) = declare(property, property.embedded, &format!("{name}.{field}")) {
            known.insert(field.clone(), of);
        }
    }
    if is_root {
        add_meta(&mut known, name);
    }
    // Two bytes are the braces; only what must be there and has no default counts.
    let mut min_size = 2;
    for field in &schema.constraints().required {
        let has_default = schema.properties.get(field).is_some_and(|property| property.default.is_some());
        if let Some(of) = known.get(field).filter(|_| !has_default) {
            min_size += i64::try_from(field.len()).unwrap_or(0) + of.min_size + 4;
        }
    }
    let mut object = Object { name: name.to_owned(), ..Object::default() };
    let mut sizes = Sizes::default();
    for (field, of) in &known {
        if let Some(escaped) = escape(field) {
            sizes.fields.insert(escaped.clone(), of.sizes.clone());
            object.fields.insert(escaped, Field { json: field.as_str().into(), of: of.of.clone() });
        }
    }
    Declared { of: Type::Object(Arc::new(object)), sizes, min_size, items: None, fields: known }
}

/// `apiVersion`, `kind`, `metadata.name` and `metadata.generateName` are always there.
fn add_meta(known: &mut BTreeMap<String, Declared>, name: &str) {
    let text = || Declared::scalar(Type::String, MIN_STRING, MAX_REQUEST - 2);
    for field in ["apiVersion", "kind"] {
        known.entry(field.to_owned()).or_insert_with(text);
    }
    let mut metadata: BTreeMap<String, Declared> =
        known.remove("metadata").map(|metadata| metadata.fields).unwrap_or_default();
    for field in ["name", "generateName"] {
        metadata.entry(field.to_owned()).or_insert_with(text);
    }
    let fields = metadata
        .iter()
        .map(|(field, of)| (field.clone(), Field { json: field.as_str().into(), of: of.of.clone() }));
    let object = Object { name: format!("{name}.metadata"), fields: fields.collect(), open: false };
    let sizes = Sizes {
        fields: metadata.iter().map(|(field, of)| (field.clone(), of.sizes.clone())).collect(),
        ..Sizes::default()
    };
    let of = Type::Object(Arc::new(object));
    known.insert("metadata".to_owned(), Declared { of, sizes, min_size: 2, items: None, fields: metadata });
}

fn text(schema: &Structural) -> Declared {
    let constraints = schema.constraints();
    let longest = |factor: i64| constraints.max_length.map(|max| max.max(0).saturating_mul(factor));
    match constraints.format.as_str() {
        "byte" => Declared::scalar(Type::Bytes, MIN_STRING, longest(1).unwrap_or(MAX_REQUEST - 2)),
        "duration" => Declared::scalar(Type::Duration, MIN_DURATION, MAX_TIME),
        "date" => Declared::scalar(Type::Timestamp, DATE, DATE),
        "date-time" => Declared::scalar(Type::Timestamp, MIN_TIME, MAX_TIME),
        _ => {
            let options = constraints.enumeration.iter().filter_map(|option| option.as_str());
            let option = options.map(|option| i64::try_from(option.len()).unwrap_or(i64::MAX)).max();
            // A character may take four bytes.
            let max = longest(4).or(option).unwrap_or(MAX_REQUEST - 2);
            Declared::scalar(Type::String, MIN_STRING, max)
        }
    }
}

/// How often data of a least size fits into one request.
pub(super) fn max_cardinality(min_size: i64) -> u64 {
    u64::try_from(MAX_REQUEST / (min_size + 1)).unwrap_or(0)
}
