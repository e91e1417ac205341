//! From the bytes of a request or of the store to an object.
//!
//! [`object`] is what a create or update does with a body: find out the kind, look up its type, read the fields.
//! [`typed`] reads a document of a known type, and [`untyped`] one without a type. What comes out is what upstream
//! would have stored: known fields only, canonical scalars, empty optional fields left out, required ones present.
//!
//! The fields of a `serde_json::Value` are sorted by name. Stored objects are its compact form, so equal objects
//! are equal bytes whatever order their author wrote, and a write that changes nothing is recognised as such.

pub(crate) mod canonical;
mod error;
mod go_time;
mod go_type;
mod interpret;
mod scalar;
mod scan;
mod strict;
mod typed;
mod untyped;
mod yaml;
mod zero;

use serde_json::Value;

use crate::gvk::GroupVersionKind;
use crate::protobuf;
use crate::schema::{Type, TypeRef};

pub use error::{DecodeError, GoQuoted, SyntaxError, TypeError};
pub use interpret::TypeMeta;
pub use scan::MAX_DEPTH;

/// How the bytes are written; the caller knows it from the content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// Unknown and repeated fields in upstream's words (`unknown field "spec.foo"`), collected only on request.
    pub strict_errors: Vec<String>,
}

impl Decoded {
    /// The error of a strict request; none when nothing is wrong.
    pub fn strict_error(&self) -> Option<DecodeError> {
        (!self.strict_errors.is_empty()).then(|| DecodeError::Strict(self.strict_errors.clone()))
    }
}

/// An object with the kind it says it is.
#[derive(Clone, Debug)]
pub struct Object {
    pub gvk: GroupVersionKind,
    pub of: TypeRef,
    pub decoded: Decoded,
}

/// A body that could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The kind the body says it is, if that much could be read.
    pub gvk: Option<GroupVersionKind>,
    pub error: DecodeError,
}

impl Rejection {
    /// The message of the BadRequest that upstream answers, for an endpoint that serves `expected`.
    pub fn message(&self, expected: &str, body: &[u8]) -> String {
        match &self.gvk {
            Some(gvk) if !gvk.kind.is_empty() => {
                let version = GoQuoted(&gvk.version);
                format!("{} in version {version} cannot be handled as a {expected}: {}", gvk.kind, self.error)
            }
            _ => format!(
                "the object provided is unrecognized (must be of type {expected}): {} ({})",
                self.error,
                summary(body)
            ),
        }
    }
}

/// The beginning of a body: as text when it may be JSON, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    const MAX: usize = 30;
    let shown = &body[..body.len().min(MAX)];
    let text = match body.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > MAX { text + " ..." } else { text }
}

/// Reads the body of a create or update. `default` is the kind that the endpoint serves; `lookup` knows the types of
/// the kinds that may be sent there.
pub fn object(
    body: &[u8],
    format: Format,
    default: &GroupVersionKind,
    strict: bool,
    lookup: impl Fn(&GroupVersionKind) -> Option<TypeRef>,
) -> Result<Object, Box<Rejection>> {
    let reject = |gvk: Option<&GroupVersionKind>, error| Box::new(Rejection { gvk: gvk.cloned(), error });
    let unpacked = Unpacked::read(body, format).map_err(|error| reject(None, error))?;
    let meta = unpacked.meta().map_err(|error| reject(None, error))?;
    let gvk = meta.with_defaults(default).map_err(|error| reject(None, error))?;
    let of = lookup(&gvk).ok_or_else(|| reject(Some(&gvk), DecodeError::UnknownKind(gvk.clone())))?;
    let decoded = unpacked.typed(&of, strict).map_err(|error| reject(Some(&gvk), error))?;
    Ok(Object { gvk, of, decoded })
}

/// Reads a document of a known type.
pub fn typed(bytes: &[u8], format: Format, of: &Type, strict: bool) -> Result<Decoded, DecodeError> {
    Unpacked::read(bytes, format)?.typed(of, strict)
}

/// Reads a document of no known type: custom resources and patches. Protobuf has no untyped form.
pub fn untyped(bytes: &[u8], format: Format, strict: bool) -> Result<Decoded, DecodeError> {
    Unpacked::read(bytes, format)?.untyped(strict)
}

/// Brings a value that was patched or built into the form it would have had it been sent.
pub fn normalize(value: &Value, of: &Type, strict: bool) -> Result<Decoded, DecodeError> {
    let (value, strict_errors) = typed::decode(value.to_string().as_bytes(), of, strict)?;
    Ok(Decoded { value, strict_errors })
}

/// A document, freed of its format as far as that goes without a type.
enum Unpacked<'a> {
    Json(&'a [u8]),
    /// As JSON, and what a strict reader says about the YAML.
    Yaml(String, Option<String>),
    Protobuf(protobuf::Envelope<'a>),
}

impl<'a> Unpacked<'a> {
    fn read(bytes: &'a [u8], format: Format) -> Result<Self, DecodeError> {
        Ok(match format {
            Format::Json => Self::Json(bytes),
            Format::Yaml => {
                let (value, duplicates) = yaml::to_json(bytes)?;
                let note = (!duplicates.is_empty())
                    .then(|| format!("yaml: unmarshal errors:\n  {}", duplicates.join("\n  ")));
                Self::Yaml(value.to_string(), note)
            }
            Format::Protobuf => Self::Protobuf(protobuf::Envelope::read(bytes)?),
        })
    }

    fn meta(&self) -> Result<TypeMeta, DecodeError> {
        match self {
            Self::Json(bytes) => TypeMeta::of_json(bytes),
            Self::Yaml(json, _) => TypeMeta::of_json(json.as_bytes()),
            Self::Protobuf(envelope) => Ok(envelope.meta.clone()),
        }
    }

    fn typed(&self, of: &Type, strict: bool) -> Result<Decoded, DecodeError> {
        let (json, note) = match self {
            Self::Json(bytes) => (*bytes, None),
            Self::Yaml(json, note) => (json.as_bytes(), note.clone()),
            Self::Protobuf(envelope) => {
                return Ok(Decoded { value: protobuf::decode(envelope, of)?, strict_errors: Vec::new() });
            }
        };
        let (value, found) = typed::decode(json, of, strict)?;
        Ok(Decoded { value, strict_errors: collect(strict, note, found) })
    }

    fn untyped(&self, strict: bool) -> Result<Decoded, DecodeError> {
        let (json, note) = match self {
            Self::Json(bytes) => (*bytes, None),
            Self::Yaml(json, note) => (json.as_bytes(), note.clone()),
            Self::Protobuf(_) => return Err(DecodeError::Protobuf(protobuf::ProtobufError::Untyped)),
        };
        let (value, found) = untyped::decode(json, strict)?;
        Ok(Decoded { value, strict_errors: collect(strict, note, found) })
    }
}

fn collect(strict: bool, note: Option<String>, found: Vec<String>) -> Vec<String> {
    if strict { note.into_iter().chain(found).collect() } else { Vec::new() }
}
