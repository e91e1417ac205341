//! Patches of objects: JSON patch, JSON merge patch and strategic merge patch.
//!
//! (The fourth, apply, is in [`crate::apply`].) A patch is read once and may be applied several times, as when
//! an update conflicts. What comes out is an object that has yet to be decoded against its type.

mod fmt;
pub mod json;
pub mod merge;
mod order;
pub mod strategic;

use crate::decode;

/// What upstream reads a patch of an object into.
const OBJECT: &str = "map[string]interface {}";

/// Why a patch is refused, sorted by the answer it gets; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// There are too many operations: 413.
    #[error("{0}")]
    TooLarge(String),
    /// The patch does not fit the object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// The patch does not fit the type, which upstream answers with 500.
    #[error("{0}")]
    Internal(String),
}

/// Reads a patch as JSON, within the decoder's limits.
fn document(text: &[u8]) -> Result<serde_json::Value, String> {
    let decoded = decode::untyped(text, decode::Format::Json, false);
    decoded.map(|decoded| decoded.value).map_err(|error| error.to_string())
}

/// JSON patches and merge patches say what was being read, strategic ones do not.
fn malformed(fault: String) -> PatchError {
    PatchError::Malformed(format!("error decoding patch: {fault}"))
}

fn not_a(expected: &str, value: &serde_json::Value) -> String {
    format!("json: cannot unmarshal {} into Go value of type {expected}", kind_name(value))
}

/// What `json.Unmarshal` calls a value's kind.
fn kind_name(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "bool",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    }
}
