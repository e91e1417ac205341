//! Reads labels and selectable fields from stored bytes without building the object.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Labels, sorted by key.
pub type Labels = Box<[(Box<str>, Box<str>)]>;

/// Knows where the labels and the selectable fields of one resource are.
#[derive(Debug)]
pub struct Extractor {
    root: Node,
    /// What a field reads as where the object has nothing there.
    absent: Box<[Box<str>]>,
    /// A slot that, where it is empty, reads as another one does.
    alternative: Option<(usize, usize)>,
}

/// One step on the way to the wanted values.
#[derive(Debug, Default)]
struct Node {
    /// Where the scalar found here goes.
    slot: Option<usize>,
    labels: bool,
    children: Vec<(Box<str>, Node)>,
}

#[derive(Debug, Default)]
pub struct Extracted {
    pub labels: Labels,
    /// One for each path given.
    pub fields: Box<[Box<str>]>,
}

impl Extractor {
    /// JSON paths with dots (`spec.nodeName`), each with what it reads as where the object has nothing there.
    pub fn new<'a>(paths: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut root = Node::default();
        root.descend("metadata.labels").labels = true;
        let mut slots = Vec::new();
        for (path, absent) in paths {
            root.descend(path).slot = Some(slots.len());
            slots.push(absent.into());
        }
        Self { root, absent: slots.into(), alternative: None }
    }

    /// Where the value at slot `empty` is empty, it reads as the one at slot `other`.
    pub fn or_else(self, empty: usize, other: usize) -> Self {
        Self { alternative: Some((empty, other)), ..self }
    }

    pub fn extract(&self, json: &[u8]) -> Result<Extracted, serde_json::Error> {
        self.extract_from(&mut serde_json::Deserializer::from_slice(json))
    }

    /// The same of an object in another form.
    pub fn extract_from<'de, D: Deserializer<'de>>(&self, object: D) -> Result<Extracted, D::Error> {
        let mut found = Found { labels: Vec::new(), fields: self.absent.to_vec() };
        Walk { node: &self.root, found: &mut found }.deserialize(object)?;
        if let Some((empty, other)) = self.alternative
            && found.fields[empty].is_empty()
        {
            found.fields[empty] = found.fields[other].clone();
        }
        found.labels.sort();
        Ok(Extracted { labels: found.labels.into(), fields: found.fields.into() })
    }
}

impl Node {
    fn descend(&mut self, path: &str) -> &mut Self {
        path.split('.').fold(self, |node, step| {
            let at = node.children.iter().position(|(name, _)| &**name == step).unwrap_or_else(|| {
                node.children.push((step.into(), Self::default()));
                node.children.len() - 1
            });
            &mut node.children[at].1
        })
    }
}

struct Found {
    labels: Vec<(Box<str>, Box<str>)>,
    fields: Vec<Box<str>>,
}

struct Walk<'a> {
    node: &'a Node,
    found: &'a mut Found,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Walk<'_> {
    fn scalar(self, text: impl fmt::Display) {
        if let Some(slot) = self.node.slot {
            self.found.fields[slot] = text.to_string().into();
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.node.labels {
            while let Some((key, value)) = map.next_entry::<Box<str>, Box<str>>()? {
                self.found.labels.push((key, value));
            }
            return Ok(());
        }
        while let Some(child) = map.next_key_seed(Step(self.node))? {
            match child {
                Some(node) => map.next_value_seed(Walk { node, found: self.found })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a key and finds the child of that name, without keeping the key.
struct Step<'a>(&'a Node);

impl<'a, 'de> DeserializeSeed<'de> for Step<'a> {
    type Value = Option<&'a Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Step<'a> {
    type Value = Option<&'a Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.children.iter().find(|(name, _)| &**name == key).map(|(_, node)| node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_fields_are_found_whatever_stands_around_them() {
        let extractor = Extractor::new([
            ("spec.nodeName", ""),
            ("spec.hostNetwork", "false"),
            ("status.phase", ""),
            ("status.replicas", "0"),
            ("spec.unschedulable", "false"),
        ]);
        let json = br#"{"kind":"Pod","metadata":{"labels":{"b":"2","a":"1\n"},"x":[{"labels":3}]},
            "spec":{"nodeName":"n","deep":{"nodeName":"no"},"hostNetwork":true},"status":{"phase":null,"replicas":3}}"#;
        let found = extractor.extract(json).unwrap();
        assert_eq!(found.labels[0], ("a".into(), "1\n".into()));
        assert_eq!(&*found.labels[1].0, "b");
        assert_eq!(found.fields.iter().map(|f| &**f).collect::<Vec<_>>(), ["n", "true", "", "3", "false"]);
    }
}
