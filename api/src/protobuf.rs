//! Kubernetes' protobuf form of objects, transcoded to and from JSON values along the type table.
//!
//! On the wire an object is the four bytes `k8s\0` and a `runtime.Unknown`: the kind, and the object's own message
//! as bytes. The messages are gogo's: proto2 without presence for plain Go fields, so a zero that JSON leaves out
//! is left out here, too, and comes back the same.

mod decode;
mod encode;
mod envelope;
mod wire;

use thiserror::Error;

pub use decode::decode;
pub use encode::{encode, message, watch_event};
pub use envelope::{Envelope, MAGIC};
pub(crate) use wire::Writer;

/// Why bytes are no object, or an object has no bytes. The texts are upstream's where it has any.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtobufError {
    #[error("empty data")]
    EmptyData,
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("empty body")]
    EmptyBody,
    #[error("unexpected EOF")]
    UnexpectedEof,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u64),
    #[error("proto: illegal tag {0} (wire type {1})")]
    IllegalTag(u64, u64),
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongWireType { wire: u64, field: String },
    #[error("proto: exceeded max depth")]
    TooDeep,
    #[error("proto: field {field}: {message}")]
    Value { field: String, message: String },
    #[error(
        "object of type {0} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    )]
    NotMarshalable(String),
    #[error("an object of unknown type cannot be decoded from protobuf")]
    Untyped,
}
