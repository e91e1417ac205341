//! How etcd is reached, under the names of upstream's flags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::store::{Error, Result};

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How often a quiet connection is tried, and how long the other end may take to answer that.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Where etcd is, and how this process and etcd prove themselves to each other.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// URLs; the first that answers is used until it fails (`--etcd-servers`).
    pub servers: Vec<String>,
    /// Who must have issued etcd's certificate (`--etcd-cafile`); without it, who the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// `--etcd-certfile`
    pub cert_file: Option<PathBuf>,
    /// `--etcd-keyfile`
    pub key_file: Option<PathBuf>,
    /// What keys begin with in etcd where this store says `/registry` (`--etcd-prefix`).
    pub prefix: String,
}

impl EtcdOptions {
    /// Reads the files.
    pub(super) fn connect(&self) -> Result<ConnectOptions> {
        let (interval, timeout) = KEEP_ALIVE;
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_PATIENCE)
            .with_keep_alive(interval, timeout)
            .with_keep_alive_while_idle(true)
            // A watch at a member that was cut off from the others must end, not fall silent.
            .with_require_leader(true);
        let mut tls = TlsOptions::new();
        match &self.ca_file {
            Some(file) => tls = tls.ca_certificate(Certificate::from_pem(read(file)?)),
            None if !self.servers.iter().any(|server| server.starts_with("https://")) => return Ok(options),
            None => tls = tls.with_native_roots(),
        }
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(options.with_tls(tls))
    }
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", .file.display())]
struct Unreadable {
    file: PathBuf,
    cause: std::io::Error,
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|cause| {
        Error::unavailable("reading the certificates for etcd", Unreadable { file: file.to_owned(), cause })
    })
}
