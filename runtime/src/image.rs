//! Images: references, the content store, unpacking, import and pull.
//!
//! ```text
//! <root>/images.json        names to images
//! <root>/blobs/sha256/<hex> manifests, configs, layers as they came, verified
//! <root>/layers/<key>/      one unpacked layer: fs/ and layer.json; the key comes from its chain id
//! <root>/tmp/               what a crash may leave; emptied at start
//! ```

pub mod auth;
mod compression;
pub mod digest;
mod hosts;
mod import;
mod inspect;
pub mod manifest;
mod pull;
mod push;
pub mod reference;
pub mod registry;
mod save;
mod store;
mod tar;
mod unpack;

use std::io;

pub use hosts::RegistryConfig;
pub use import::import;
pub use inspect::{Description, Step, inspect};
pub use pull::Puller;
pub use save::save;
pub use store::{Cached, Layer, Lease, Record, Store};
pub use unpack::{is_archive, unpack_archive};

use digest::Digest;

/// The registry of images that are only ever imported: asking the network for them would be pointless.
pub const LOCAL_REGISTRY: &str = "knarr.local";

/// What an image may cost before it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all its layers, unpacked.
    pub unpacked_bytes: u64,
    /// Files, directories and links of all its layers.
    pub entries: u64,
    /// Bytes of a manifest, an index or a config.
    pub document_bytes: u64,
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { unpacked_bytes: 256 << 30, entries: 8_000_000, document_bytes: 8 << 20, layers: 127 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid digest {0:?}")]
    InvalidDigest(String),
    #[error("content has digest {actual}, expected {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("archive entry {entry:?} {reason}")]
    HostileEntry { entry: String, reason: &'static str },
    #[error("archive is damaged: {0}")]
    Archive(String),
    #[error("archive is truncated")]
    Truncated,
    #[error("image is larger than the limit of {limit} {unit}")]
    TooLarge { limit: u64, unit: &'static str },
    #[error("{what} is not valid: {reason}")]
    InvalidDocument { what: String, reason: String },
    #[error("no matching manifest for {0}")]
    NoPlatform(String),
    #[error("neither an OCI layout nor a docker archive: it has no index.json and no manifest.json")]
    UnknownArchive,
    #[error("archive names {0:?} but does not hold it")]
    MissingContent(String),
    #[error("media type {0:?} is not supported")]
    MediaType(String),
    #[error("{0}")]
    Reference(#[from] reference::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error("image {0:?} not found")]
    NotFound(String),
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names what was being done when the system refused.
fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Io { doing, source }
}
