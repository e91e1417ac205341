//! Building images from Dockerfiles.
//!
//! ```text
//! Dockerfile ── parse ──▶ stages ── for each needed stage, step by step ──▶ layers and a config ──▶ an image
//!                                     RUN: a container of this runtime; COPY, ADD: files into a mounted root
//! ```
//!
//! What a step changed is the upper directory of its mount: it is archived once, for its digest and for registries,
//! and then becomes the unpacked layer as it is. A step is looked up in the store's cache by all that its result
//! depends on, so changing the last step of a large image costs only that step.
//!
//! `RUN` steps see the machine's own network, or with [`Network::None`] only a loopback; never the pods'.

pub(crate) mod changes;
mod chmod;
mod config;
mod context;
mod copy;
pub mod dockerfile;
mod glob;
pub mod ignore;
mod plan;
pub(crate) mod stage;
mod steps;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use plan::build;

use crate::image;

/// What `RUN` steps can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The machine's own network, as a program started in a shell has it.
    #[default]
    Host,
    /// A loopback of their own.
    None,
}

/// One build.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// The directory that COPY and ADD take from.
    pub context: PathBuf,
    /// `None`: `Dockerfile` in the context.
    pub dockerfile: Option<PathBuf>,
    /// Names of the image.
    pub tags: Vec<String>,
    pub arguments: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// A stage by name or number; `None`: the last.
    pub target: Option<String>,
    pub no_cache: bool,
    /// Ask registries for base images that are there.
    pub pull: bool,
    pub network: Network,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Dockerfile(#[from] dockerfile::Error),
    #[error("Dockerfile:{line}: {instruction}: {cause}")]
    Step { line: usize, instruction: String, cause: Box<Error> },
    #[error("{0}")]
    Invalid(String),
    #[error("{name}: not found in the build context")]
    NotInContext { name: String },
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Failed { command: String, code: i32 },
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error(transparent)]
    Runtime(#[from] crate::cri::Error),
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names what was being done when the system refused.
pub(crate) fn io_error(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Io { doing, source }
}

/// Where lines for whoever waits go; nobody listening is fine.
pub type Progress = tokio::sync::mpsc::UnboundedSender<String>;
