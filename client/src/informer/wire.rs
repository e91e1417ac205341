//! Decoding of lists and watch streams, straight from the bytes into the cached type.

use bytes::{Buf, Bytes, BytesMut};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{lenient, object::Cached};

/// The largest watch event accepted; several times what a server stores in one object.
const MAX_EVENT: usize = 32 << 20;

#[derive(Deserialize)]
#[serde(bound = "")]
pub(super) struct ListPage<K: Cached> {
    #[serde(default)]
    pub(super) metadata: PageMeta,
    #[serde(default = "Vec::new", deserialize_with = "null_is_empty")]
    pub(super) items: Vec<K>,
}

fn null_is_empty<'de, D, K>(deserializer: D) -> Result<Vec<K>, D::Error>
where
    D: serde::Deserializer<'de>,
    K: Cached,
{
    Ok(Option::<Vec<K>>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMeta {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) continue_token: String,
}

pub(super) enum WatchEvent<K> {
    /// Added or modified; which of the two, the store knows better.
    Applied(K),
    Deleted(K),
}

/// One line of a watch stream.
pub(super) enum Line<K> {
    Event(WatchEvent<K>, String),
    /// Nothing changed up to this resourceVersion.
    Bookmark(String),
    Error(Box<Status>),
}

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("watch event is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("watch event of unknown type {0:?}")]
    UnknownType(String),
    #[error("watch event is larger than {MAX_EVENT} bytes")]
    TooLarge,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: PageMeta,
}

pub(super) fn decode_line<K: Cached>(line: &[u8]) -> Result<Line<K>, DecodeError> {
    let event: RawEvent<'_> = serde_json::from_slice(line)?;
    let object = event.object.get();
    match event.kind {
        "ADDED" | "MODIFIED" | "DELETED" => {
            let mut object: K = lenient::read(object.as_bytes())?;
            object.shrink();
            let version = object.resource_version().to_owned();
            let event = if event.kind == "DELETED" {
                WatchEvent::Deleted(object)
            } else {
                WatchEvent::Applied(object)
            };
            Ok(Line::Event(event, version))
        }
        "BOOKMARK" => Ok(Line::Bookmark(serde_json::from_str::<Bookmark>(object)?.metadata.resource_version)),
        "ERROR" => Ok(Line::Error(serde_json::from_str(object)?)),
        other => Err(DecodeError::UnknownType(other.to_owned())),
    }
}

/// Cuts a byte stream into lines, keeping what is not complete yet.
#[derive(Default)]
pub(super) struct Lines {
    pending: BytesMut,
    scanned: usize,
}

impl Lines {
    pub(super) fn push(&mut self, chunk: &Bytes) -> Result<(), DecodeError> {
        if self.pending.len() + chunk.len() > MAX_EVENT {
            return Err(DecodeError::TooLarge);
        }
        self.pending.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole line, without its end; empty lines are skipped.
    pub(super) fn next_line(&mut self) -> Option<BytesMut> {
        loop {
            let Some(end) = self.pending[self.scanned..].iter().position(|&byte| byte == b'\n') else {
                self.scanned = self.pending.len();
                return None;
            };
            let line = self.pending.split_to(self.scanned + end);
            self.pending.advance(1);
            self.scanned = 0;
            if !line.is_empty() {
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[test]
    fn lines_survive_any_split() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\n{\"c\"";
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                lines.push(&Bytes::copy_from_slice(part)).unwrap();
                while let Some(line) = lines.next_line() {
                    seen.push(line.to_vec());
                }
            }
            assert_eq!(seen, [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec()]);
        }
    }

    #[test]
    fn every_kind_of_line_is_told_apart() {
        let line = br#"{"type":"MODIFIED","object":{"metadata":{"name":"x","resourceVersion":"7"}}}"#;
        let Ok(Line::Event(WatchEvent::Applied(object), version)) = decode_line::<ConfigMap>(line) else {
            panic!("not an event")
        };
        assert_eq!((object.metadata.name.as_deref(), version.as_str()), (Some("x"), "7"));
        let line = br#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"9"}}}"#;
        assert!(matches!(decode_line::<ConfigMap>(line), Ok(Line::Bookmark(v)) if v == "9"));
        let line = br#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#;
        assert!(matches!(decode_line::<ConfigMap>(line), Ok(Line::Error(s)) if s.code == Some(410)));
        assert!(decode_line::<ConfigMap>(br#"{"type":"NEW","object":{}}"#).is_err());
        assert!(decode_line::<ConfigMap>(b"{").is_err());
    }
}
