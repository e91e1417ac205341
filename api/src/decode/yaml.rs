//! YAML to JSON as upstream converts it: plain scalars are typed by YAML 1.1's rules (`yes`, `0777`), keys become
//! strings, anchors and merge keys are expanded within a budget. Only the first document is read.

mod scalar;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use super::error::{DecodeError, GoQuoted};
use super::scan::MAX_DEPTH;

/// Values that aliases may add to a document, against documents that grow when expanded.
const MAX_EXPANDED: usize = 100_000;

/// The document's value, and the keys that stand twice in a mapping.
pub(super) fn to_json(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let text = str::from_utf8(bytes).map_err(|_| refused("yaml: invalid leading UTF-8 octet"))?;
    let mut build = Build::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| refused(&format!("yaml: line {}: {}", error.marker().line(), error.info())))?;
        if build.event(event, span)? {
            break;
        }
    }
    Ok((build.root.unwrap_or(Value::Null), build.duplicates))
}

fn refused(message: &str) -> DecodeError {
    DecodeError::Yaml(message.to_owned())
}

#[derive(Default)]
struct Build {
    root: Option<Value>,
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    expanded: usize,
    duplicates: Vec<String>,
}

/// A collection whose end has not been seen.
enum Open {
    List { anchor: usize, items: Vec<Value> },
    Map { anchor: usize, map: Map<String, Value>, key: Option<Key>, merged: Vec<Value> },
}

/// A key whose value has not been seen.
enum Key {
    Named(String),
    Merge,
}

impl Build {
    /// Whether the document is complete.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<bool, DecodeError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                if plain && text == "<<" && tag.is_none() && self.wants_key() {
                    self.set_key(Key::Merge);
                    return Ok(false);
                }
                let value = scalar::resolve(&text, plain, tag.as_deref(), span.start.line())?;
                self.complete(value, anchor, span)?;
            }
            Event::Alias(anchor) => {
                let value =
                    self.anchors.get(&anchor).cloned().ok_or_else(|| refused("yaml: unknown anchor"))?;
                self.spend(&value)?;
                self.complete(value, 0, span)?;
            }
            Event::SequenceStart(anchor, _) => self.open(Open::List { anchor, items: Vec::new() })?,
            Event::MappingStart(anchor, _) => {
                self.open(Open::Map { anchor, map: Map::new(), key: None, merged: Vec::new() })?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { anchor, items }) => self.complete(Value::Array(items), anchor, span)?,
                Some(Open::Map { anchor, map, merged, .. }) => {
                    let map = merge(map, merged)?;
                    self.complete(Value::Object(map), anchor, span)?;
                }
                None => return Err(refused("yaml: collection ends that did not begin")),
            },
            Event::DocumentEnd => return Ok(true),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
        Ok(false)
    }

    fn open(&mut self, collection: Open) -> Result<(), DecodeError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(refused("yaml: exceeded max depth"));
        }
        self.open.push(collection);
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn set_key(&mut self, wanted: Key) {
        if let Some(Open::Map { key, .. }) = self.open.last_mut() {
            *key = Some(wanted);
        }
    }

    /// Puts a finished value where it belongs.
    fn complete(&mut self, value: Value, anchor: usize, span: Span) -> Result<(), DecodeError> {
        if anchor != 0 {
            self.spend(&value)?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::List { items, .. }) => items.push(value),
            Some(Open::Map { key: key @ None, map, .. }) => {
                let name = scalar::key(value)?;
                if map.contains_key(&name) {
                    let line = span.start.line();
                    self.duplicates.push(format!("line {line}: key {} already set in map", GoQuoted(&name)));
                }
                *key = Some(Key::Named(name));
            }
            Some(Open::Map { key, map, merged, .. }) => match key.take() {
                Some(Key::Named(name)) => {
                    map.insert(name, value);
                }
                _ => merged.push(value),
            },
        }
        Ok(())
    }

    fn spend(&mut self, value: &Value) -> Result<(), DecodeError> {
        self.expanded += count(value);
        if self.expanded > MAX_EXPANDED {
            return Err(refused("yaml: document contains excessive aliasing"));
        }
        Ok(())
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// Adds what `<<` refers to; keys of the mapping itself win, and of several mappings the first.
fn merge(mut map: Map<String, Value>, merged: Vec<Value>) -> Result<Map<String, Value>, DecodeError> {
    for value in merged {
        let sources = match value {
            Value::Array(items) => items,
            other => vec![other],
        };
        for source in sources {
            let Value::Object(source) = source else {
                return Err(refused("yaml: map merge requires map or sequence of maps as the value"));
            };
            for (key, value) in source {
                map.entry(key).or_insert(value);
            }
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        to_json(text.as_bytes()).expect(text).0
    }

    fn refusal(text: &str) -> String {
        to_json(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn plain_scalars_are_typed_as_yaml_1_1_does() {
        assert_eq!(
            read(
                "a: yes\nb: 'yes'\nc: 0777\nd: 0x1f\ne: 1_000\nf: 1.0\ng: 1e3\nh: ~\ni:\nj: 08\nk: 2001-12-14\nl: \"1\""
            ),
            json!({"a": true, "b": "yes", "c": 511, "d": 31, "e": 1000, "f": 1, "g": 1000, "h": null, "i": null,
                   "j": 8, "k": "2001-12-14", "l": "1"})
        );
        assert_eq!(read("1: a\ntrue: b\n"), json!({"1": "a", "true": "b"}));
        assert_eq!(read("a: !!str 1\n"), json!({"a": "1"}));
    }

    #[test]
    fn anchors_and_merge_keys_are_expanded() {
        assert_eq!(
            read("base: &b {x: 1, z: 2}\nuse:\n  <<: *b\n  z: 3\n"),
            json!({"base": {"x": 1, "z": 2}, "use": {"x": 1, "z": 3}})
        );
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let items = vec![format!("*a{}", level - 1); 10].join(",");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert_eq!(refusal(&text), "yaml: document contains excessive aliasing");
        assert!(to_json("[".repeat(100_000).as_bytes()).is_err());
        assert!(to_json("- ".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn only_the_first_document_is_read_and_doubles_are_reported() {
        assert_eq!(read("a: 1\n---\nb: 2\n"), json!({"a": 1}));
        let (value, duplicates) =
            to_json(b"a: 1\nb: 2\na: 3\n").expect("duplicates are no error by themselves");
        assert_eq!(value, json!({"a": 3, "b": 2}));
        assert_eq!(duplicates, ["line 3: key \"a\" already set in map"]);
        assert!(refusal("a: b: c\n").starts_with("yaml: line 1: "));
    }
}
