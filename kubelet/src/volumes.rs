//! A pod's volumes: put in place before its containers start, kept current while they run, taken away after.

pub mod atomic;
pub mod claim;
pub mod config_map;
pub mod csi;
pub mod downward;
pub mod empty_dir;
pub mod host_path;
pub mod manager;
pub mod mounts;
pub mod ownership;
pub mod payload;
pub mod projected;
pub mod secret;
pub mod subpath;
pub mod token;
pub mod trust_bundle;

use std::path::PathBuf;

pub use manager::VolumeManager;

use crate::objects::ObjectError;
use crate::pod::environment::fields::FieldError;

/// Where a volume is, for mounting into containers.
#[derive(Debug, Clone, PartialEq)]
pub enum Mounted {
    Path {
        path: PathBuf,
        read_only: bool,
    },
    /// A block device, for `volumeDevices`.
    Device {
        path: PathBuf,
        read_only: bool,
    },
    /// Files of an image; the runtime mounts them.
    Image {
        reference: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{0}")]
    Object(#[from] ObjectError),
    #[error("{0}")]
    Field(#[from] FieldError),
    #[error("{0}")]
    Invalid(String),
    #[error("references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, key: String },
    #[error("hostPath type check failed: {0}")]
    HostPath(String),
    #[error("failed to fetch token: {0}")]
    Token(String),
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{doing} was abandoned")]
    Abandoned { doing: &'static str },
    #[error("{0}")]
    Api(String),
    /// An operation of its own on the way to a volume, in upstream's words.
    #[error("{step} failed for volume \"{volume}\" : {source}")]
    Step { step: &'static str, volume: String, source: Box<VolumeError> },
    /// The volume waits to be attached to the node.
    #[error("{0}")]
    NotAttached(String),
}

impl VolumeError {
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

/// Runs file work off the async threads.
pub async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(VolumeError::Abandoned { doing }))
}
