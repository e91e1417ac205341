//! One pass over a document along a type: what Go gets by unmarshalling into a struct and marshalling it again.
//!
//! Unknown fields are dropped (and noted when strict), values of wrong form are refused, scalars are brought into
//! their canonical form, empty optional fields are left out and required ones shown with their zero value.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::error::{DecodeError, TypeError};
use super::scan::{self, Scanner};
use super::strict::Strict;
use super::{go_type, scalar, untyped, zero};
use crate::schema::{Field, List, Shape, Type};

type Step<T> = Result<T, DecodeError>;

/// The object and what is strictly wrong with it.
pub(super) fn decode(bytes: &[u8], of: &Type, strict: bool) -> Step<(Value, Vec<String>)> {
    let mut walk = Walk {
        scan: Scanner::new(bytes),
        strict: strict.then(Strict::default),
        stack: Vec::new(),
        saved: None,
    };
    let value = match walk.document(of) {
        Ok(value) => value,
        // A document that is no JSON is refused as such, wherever the walk stopped.
        Err(error) => return Err(scan::check(bytes).map_or_else(Into::into, |()| error)),
    };
    Ok((value, walk.strict.map(Strict::into_errors).unwrap_or_default()))
}

struct Walk<'a, 't> {
    scan: Scanner<'a>,
    strict: Option<Strict>,
    /// The fields on the way from the top, each with the struct it belongs to.
    stack: Vec<(&'t Type, &'t Field)>,
    /// The first value of wrong form. The walk goes on, because bad syntax further down outweighs it.
    saved: Option<DecodeError>,
}

impl<'t> Walk<'_, 't> {
    fn document(&mut self, of: &'t Type) -> Step<Value> {
        let value = match self.scan.peek()? {
            b'{' => Value::Object(self.members(of)?),
            b'n' => {
                self.scan.literal()?;
                Value::Object(zero::of_struct(of))
            }
            _ => {
                self.refuse(|| go_type::of_type(of))?;
                Value::Null
            }
        };
        self.scan.end()?;
        match self.saved.take() {
            Some(error) => Err(error),
            None => Ok(value),
        }
    }

    /// The value in its canonical form; None for null, and for what was refused.
    /// `nesting` counts the lists and maps between the field on top of the stack and the value.
    fn value(&mut self, shape: &'t Shape, nesting: usize) -> Step<Option<Value>> {
        let start = self.scan.peek()?;
        if start == b'n' {
            self.scan.literal()?;
            return Ok(None);
        }
        match (shape, start) {
            (Shape::Struct(of), b'{') => self.members(of).map(|map| Some(Value::Object(map))),
            (Shape::List(list), b'[') => self.list(list, nesting).map(Some),
            (Shape::Map(map), b'{') => self.map(&map.value, nesting).map(Some),
            (Shape::String, b'"') => Ok(Some(Value::String(self.scan.string()?.into_owned()))),
            (Shape::Bool, b't' | b'f') => Ok(self.scan.literal()?.map(Value::Bool)),
            (Shape::Int32 | Shape::Int64 | Shape::Number, b'-' | b'0'..=b'9') => self.number(shape, nesting),
            (Shape::Bytes, b'"') => self.bytes(),
            (Shape::Any | Shape::Object, _) => untyped::value(&mut self.scan, &mut None).map(Some),
            (Shape::OneOf(of), _) => self.one_of(of, start, nesting),
            (Shape::Quantity, _) => {
                let text = match start {
                    b'"' => self.scan.string()?,
                    _ => String::from_utf8_lossy(self.scan.raw()?),
                };
                scalar::quantity(&text).map(|text| Some(Value::String(text)))
            }
            (Shape::Time, b'"') => scalar::time(&self.scan.string()?).map(|text| text.map(Value::String)),
            (Shape::MicroTime, b'"') => {
                scalar::micro_time(&self.scan.string()?).map(|text| text.map(Value::String))
            }
            (Shape::Duration, b'"') => {
                scalar::duration(&self.scan.string()?).map(|text| Some(Value::String(text)))
            }
            (Shape::IntOrString, b'"') => Ok(Some(Value::String(self.scan.string()?.into_owned()))),
            (Shape::IntOrString, b'-' | b'0'..=b'9') => self.number(&Shape::Int32, nesting),
            _ => self.refuse_at(shape, nesting),
        }
    }

    fn members(&mut self, of: &'t Type) -> Step<Map<String, Value>> {
        let mut map = Map::new();
        let mut seen = self.strict.is_some().then(|| vec![false; of.fields.len()]);
        self.scan.enter()?;
        let mut first = true;
        while let Some(key) = self.scan.key(first)? {
            first = false;
            let Some(index) = of.field_index(&key) else {
                self.unknown(&key)?;
                continue;
            };
            let field = &of.fields[index];
            if let (Some(seen), Some(strict)) = (&mut seen, &mut self.strict)
                && std::mem::replace(&mut seen[index], true)
            {
                strict.duplicate(&key);
            }
            let value = self.member(of, field)?;
            store(field, value, &mut map);
        }
        zero::complete(of, &mut map);
        Ok(map)
    }

    fn member(&mut self, of: &'t Type, field: &'t Field) -> Step<Option<Value>> {
        let mark = self.strict.as_mut().map(|strict| strict.push_key(&field.name));
        self.stack.push((of, field));
        let value = self.value(&field.shape, 0)?;
        self.stack.pop();
        self.strict.as_mut().zip(mark).into_iter().for_each(|(strict, mark)| strict.pop(mark));
        Ok(value)
    }

    fn unknown(&mut self, key: &str) -> Step<()> {
        if let Some(strict) = &mut self.strict {
            strict.unknown(key);
        }
        Ok(self.scan.skip()?)
    }

    fn list(&mut self, list: &'t List, nesting: usize) -> Step<Value> {
        let mut items = Vec::new();
        self.scan.enter()?;
        while self.scan.element(items.is_empty())? {
            let mark = self.strict.as_mut().map(|strict| strict.push_index(items.len()));
            let item = self.value(&list.item, nesting + 1)?;
            let null = || if list.pointers { Value::Null } else { zero::of_shape(&list.item) };
            items.push(item.unwrap_or_else(null));
            self.strict.as_mut().zip(mark).into_iter().for_each(|(strict, mark)| strict.pop(mark));
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, shape: &'t Shape, nesting: usize) -> Step<Value> {
        let mut map = Map::new();
        self.scan.enter()?;
        let mut first = true;
        while let Some(key) = self.scan.key(first)?.map(Cow::into_owned) {
            first = false;
            if let Some(strict) = self.strict.as_mut().filter(|_| map.contains_key(&key)) {
                strict.duplicate(&key);
            }
            let mark = self.strict.as_mut().map(|strict| strict.push_key(&key));
            let value = self.value(shape, nesting + 1)?.unwrap_or_else(|| zero::of_shape(shape));
            self.strict.as_mut().zip(mark).into_iter().for_each(|(strict, mark)| strict.pop(mark));
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn number(&mut self, shape: &'t Shape, nesting: usize) -> Step<Option<Value>> {
        let text = self.scan.number()?;
        let number = match shape {
            Shape::Int32 => text.parse::<i32>().ok().map(Value::from),
            Shape::Int64 => text.parse::<i64>().ok().map(Value::from),
            _ => text.parse().ok().and_then(untyped::float).map(Value::Number),
        };
        if number.is_none() {
            self.save(format!("number {text}"), self.expected(shape, nesting));
        }
        Ok(number)
    }

    fn bytes(&mut self) -> Step<Option<Value>> {
        match scalar::bytes(&self.scan.string()?) {
            Ok(text) => Ok(Some(Value::String(text))),
            Err(error) => {
                self.saved.get_or_insert(error);
                Ok(None)
            }
        }
    }

    /// Upstream reads such types with code of their own that knows no strictness and ignores unfitting forms.
    fn one_of(&mut self, of: &'t Type, start: u8, nesting: usize) -> Step<Option<Value>> {
        let fits = |shape: &Shape| match start {
            b'{' => matches!(shape, Shape::Struct(_)),
            b'[' => matches!(shape, Shape::List(_)),
            b't' | b'f' => matches!(shape, Shape::Bool),
            _ => false,
        };
        let Some(form) = of.one_of.iter().find(|form| fits(&form.shape)) else {
            self.scan.skip()?;
            if of.one_of.iter().any(|form| matches!(form.shape, Shape::Bool)) {
                return Err(DecodeError::Value("boolean or JSON schema expected".to_owned()));
            }
            return Ok(None);
        };
        let strict = self.strict.take();
        let value = self.value(&form.shape, nesting)?;
        self.strict = strict;
        Ok(value)
    }

    fn refuse_at(&mut self, shape: &'t Shape, nesting: usize) -> Step<Option<Value>> {
        let expected = self.expected(shape, nesting);
        self.refuse(|| expected)?;
        Ok(None)
    }

    /// Consumes a value that does not fit.
    fn refuse(&mut self, expected: impl FnOnce() -> String) -> Step<()> {
        let value = match self.scan.peek()? {
            b'{' => "object",
            b'[' => "array",
            b'"' => "string",
            b't' | b'f' => "bool",
            _ => "number",
        };
        self.scan.skip()?;
        self.save(value.to_owned(), expected());
        Ok(())
    }

    fn expected(&self, shape: &Shape, nesting: usize) -> String {
        match self.stack.last() {
            // Reading these starts over with a plain string or number.
            _ if matches!(shape, Shape::Time | Shape::MicroTime | Shape::Duration | Shape::IntOrString) => {
                go_type::of_shape(shape)
            }
            Some((owner, field)) => go_type::of_field(owner, field, nesting, shape),
            None => go_type::of_shape(shape),
        }
    }

    fn save(&mut self, value: String, expected: String) {
        if self.saved.is_some() {
            return;
        }
        let mut path = Vec::new();
        for (owner, field) in &self.stack {
            path.extend_from_slice(go_type::embedded(owner, field));
            path.push(field.name.as_ref());
        }
        let struct_name =
            self.stack.last().map(|(owner, _)| owner.short_name().to_owned()).unwrap_or_default();
        self.saved =
            Some(DecodeError::Type(TypeError { value, struct_name, field: path.join("."), expected }));
    }
}

/// Null clears what can be nil and leaves everything else as it was.
fn store(field: &Field, value: Option<Value>, map: &mut Map<String, Value>) {
    match value {
        Some(value) if !zero::omits(field, &value) => {
            map.insert(field.name.clone().into_owned(), value);
        }
        None if !field.pointer && !matches!(field.shape, Shape::List(_) | Shape::Map(_) | Shape::Bytes) => {}
        _ => {
            map.remove(field.name.as_ref());
        }
    }
}
