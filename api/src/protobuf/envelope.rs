//! `runtime.Unknown`: what every object travels in.

use super::ProtobufError;
use super::wire::{Payload, Reader, Writer};
use crate::decode::TypeMeta;

/// The first bytes of every object.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// An object's kind and its message, still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub meta: TypeMeta,
    pub raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        if bytes.is_empty() {
            return Err(ProtobufError::EmptyData);
        }
        let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
        if body.is_empty() {
            return Err(ProtobufError::EmptyBody);
        }
        let mut envelope = Self { meta: TypeMeta::default(), raw: &[] };
        let mut reader = Reader::new(body);
        while let Some(field) = reader.field()? {
            match field {
                (1, Payload::Bytes(meta)) => envelope.meta = type_meta(meta)?,
                (2, Payload::Bytes(raw)) => envelope.raw = raw,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

fn type_meta(bytes: &[u8]) -> Result<TypeMeta, ProtobufError> {
    let mut meta = TypeMeta::default();
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(text)) => meta.api_version = String::from_utf8_lossy(text).into_owned(),
            (2, Payload::Bytes(text)) => meta.kind = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    Ok(meta)
}

/// Writes everything up to the object's message, which follows as field 2, and what follows that.
pub(super) fn write(
    writer: &mut Writer,
    meta: &TypeMeta,
    message: impl FnOnce(&mut Writer) -> Result<(), ProtobufError>,
) -> Result<(), ProtobufError> {
    writer.nested(1, |writer| -> Result<(), ProtobufError> {
        writer.bytes_field(1, meta.api_version.as_bytes());
        writer.bytes_field(2, meta.kind.as_bytes());
        Ok(())
    })?;
    writer.nested(2, message)?;
    // Content encoding and type, which upstream writes even when empty.
    writer.bytes_field(3, b"");
    writer.bytes_field(4, b"");
    Ok(())
}
