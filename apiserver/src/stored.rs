//! The form in which objects rest: JSON that begins with kind, apiVersion and metadata, without a resourceVersion.
//!
//! The resourceVersion is the store's revision, known only after the write. It is spliced in when bytes are sent,
//! so that a read neither parses nor re-encodes.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

/// An object's stored bytes and the revision that wrote them.
#[derive(Debug, Clone)]
pub struct Stored {
    json: Bytes,
    revision: u64,
    /// Just behind the `{` of the metadata.
    splice: u32,
}

/// The stored bytes are no object.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the stored object does not parse: {0}")]
pub struct Corrupt(pub String);

const METADATA: &[u8] = b"\"metadata\":{";

impl Stored {
    /// Takes bytes as they are in the store. Bytes in another layout than [`encode`] writes are laid out anew.
    pub fn new(json: Bytes, revision: u64) -> Result<Self, Corrupt> {
        if let Some(splice) = splice_point(&json) {
            return Ok(Self { json, revision, splice });
        }
        let value: Value = serde_json::from_slice(&json).map_err(|e| Corrupt(e.to_string()))?;
        let json = encode(&value);
        let splice = splice_point(&json).ok_or_else(|| Corrupt("it has no kind or no metadata".into()))?;
        Ok(Self { json, revision, splice })
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The same object as of another revision: what a watch shows of an object that was deleted.
    pub fn at(&self, revision: u64) -> Self {
        Self { revision, ..self.clone() }
    }

    /// The bytes as in the store, without a resourceVersion.
    pub fn raw(&self) -> &Bytes {
        &self.json
    }

    /// About how many bytes [`Self::write`] writes.
    pub fn size(&self) -> usize {
        self.json.len() + 48
    }

    /// Writes the whole object with its resourceVersion.
    pub fn write(&self, out: &mut BytesMut) {
        let splice = self.splice as usize;
        out.extend_from_slice(&self.json[..splice]);
        self.write_rest(out, splice);
    }

    /// Writes the object without kind and apiVersion, as items of a built-in list are.
    pub fn write_item(&self, out: &mut BytesMut) {
        out.put_u8(b'{');
        out.extend_from_slice(METADATA);
        self.write_rest(out, self.splice as usize);
    }

    fn write_rest(&self, out: &mut BytesMut, splice: usize) {
        out.reserve(self.size());
        out.extend_from_slice(b"\"resourceVersion\":\"");
        let mut digits = [0u8; 20];
        out.extend_from_slice(decimal(self.revision, &mut digits));
        out.put_u8(b'"');
        if self.json.get(splice) != Some(&b'}') {
            out.put_u8(b',');
        }
        out.extend_from_slice(&self.json[splice..]);
    }

    /// The whole object with its resourceVersion.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size());
        self.write(&mut out);
        out.freeze()
    }

    /// The object parsed, with its resourceVersion.
    pub fn to_value(&self) -> Result<Value, Corrupt> {
        let mut value: Value = serde_json::from_slice(&self.json).map_err(|e| Corrupt(e.to_string()))?;
        crate::object::set_meta(&mut value, "resourceVersion", self.revision.to_string());
        Ok(value)
    }
}

fn decimal(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &digits[at..];
        }
    }
}

/// Finds the metadata of `{"kind":"..","apiVersion":"..","metadata":{`; neither value holds a quote.
fn splice_point(json: &[u8]) -> Option<u32> {
    let rest = json.strip_prefix(b"{\"kind\":\"")?;
    let rest = &rest[rest.iter().position(|b| *b == b'"')?..];
    let rest = rest.strip_prefix(b"\",\"apiVersion\":\"")?;
    let rest = &rest[rest.iter().position(|b| *b == b'"')?..];
    let rest = rest.strip_prefix(b"\",")?.strip_prefix(METADATA)?;
    u32::try_from(json.len() - rest.len()).ok()
}

/// The bytes to store of an object: kind, apiVersion and metadata first, no resourceVersion, no selfLink.
pub fn encode(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        write_member(&mut out, key, fields.get(key).unwrap_or(&Value::String(String::new())));
    }
    write_key(&mut out, "metadata");
    out.push(b'{');
    if let Some(metadata) = fields.get("metadata").and_then(Value::as_object) {
        for (key, value) in metadata {
            if key != "resourceVersion" && key != "selfLink" {
                write_member(&mut out, key, value);
            }
        }
    }
    out.push(b'}');
    for (key, value) in fields {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            write_member(&mut out, key, value);
        }
    }
    out.push(b'}');
    out.into()
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, key).expect("a string encodes, and a vector takes it");
    out.push(b':');
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &Value) {
    write_key(out, key);
    serde_json::to_writer(&mut *out, value).expect("a value encodes, and a vector takes it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_resource_version_is_spliced_in_without_parsing() {
        let object = json!({"data": {"a": "\"metadata\":{"}, "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "x", "resourceVersion": "3"}});
        let stored = Stored::new(encode(&object), 120).unwrap();
        let mut expected = object.clone();
        expected["metadata"]["resourceVersion"] = "120".into();
        assert_eq!(serde_json::from_slice::<Value>(&stored.to_bytes()).unwrap(), expected);
        assert_eq!(stored.to_value().unwrap(), expected);
        let mut item = BytesMut::new();
        stored.write_item(&mut item);
        assert!(item.starts_with(br#"{"metadata":{"resourceVersion":"120","name":"x"},"data""#), "{item:?}");
    }

    #[test]
    fn empty_metadata_and_foreign_layouts_are_served() {
        let stored = Stored::new(encode(&json!({"kind": "A", "apiVersion": "b/v1"})), 0).unwrap();
        assert_eq!(
            &stored.to_bytes()[..],
            br#"{"kind":"A","apiVersion":"b/v1","metadata":{"resourceVersion":"0"}}"#
        );
        let foreign =
            Bytes::from_static(br#"{ "metadata": {"name": "x"}, "kind": "A", "apiVersion": "v1" }"#);
        assert_eq!(Stored::new(foreign, 7).unwrap().to_value().unwrap()["metadata"]["resourceVersion"], "7");
        assert!(Stored::new(Bytes::from_static(b"\x00\x01"), 7).is_err());
    }
}
