//! How the command line talks to a running cluster: HTTP over a socket in its data directory, for root only.

mod client;
mod service;

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use client::Client;
pub use service::{Backend, listen, serve};

const SOCKET: &str = "control.sock";

/// The socket of a data directory, reached through an open directory: the address of a socket may only have 107
/// bytes, and data directories may be deeper than that.
struct Socket {
    directory: std::fs::File,
}

impl Socket {
    fn of(data_dir: &Path) -> std::io::Result<Self> {
        Ok(Self { directory: std::fs::File::open(data_dir)? })
    }

    fn address(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.directory.as_raw_fd()))
    }
}

/// What a running cluster says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub api_server: String,
    pub node: String,
    pub ready: bool,
    /// Why it is not ready.
    pub message: String,
    pub uptime_seconds: u64,
    pub pods: usize,
    pub resident_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    pub names: Vec<String>,
    pub digest: String,
    /// Bytes of unpacked content.
    pub size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ImportRequest {
    /// An archive on this machine.
    pub path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PullRequest {
    pub reference: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TagRequest {
    pub name: String,
    pub tag: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SaveRequest {
    pub names: Vec<String>,
    /// A file on this machine, made or written over.
    pub path: PathBuf,
}

#[derive(Serialize, Deserialize)]
pub struct PushRequest {
    pub reference: String,
    /// User name and password.
    pub credentials: Option<(String, String)>,
}

/// What a build says while it goes on, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum BuildEvent {
    Line(String),
    Done(Image),
    Failed(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequest {
    pub ttl_seconds: u64,
}

/// What a machine needs to join.
#[derive(Serialize, Deserialize)]
pub struct JoinInfo {
    pub server: String,
    pub token: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotRequest {
    /// A file on this machine that does not exist yet.
    pub path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    pub revision: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    message: String,
}
