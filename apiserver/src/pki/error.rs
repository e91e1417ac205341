//! What can go wrong with keys and certificates.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {path}: {cause}")]
    File { doing: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("{path} is not what it should be: {cause}")]
    Malformed { path: PathBuf, cause: String },
    #[error("issuing a certificate for {name:?}: {cause}")]
    Issue { name: String, cause: rcgen::Error },
    #[error("setting up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("certificate of {name:?} is valid for a time that cannot be represented")]
    Lifetime { name: String },
}
