//! Keys and certificates: the cluster's own authorities, what they issue, and TLS that follows rotation.
//!
//! The directory has upstream's layout: `ca`, `front-proxy-ca` and `sa` are made once and kept; everything else is
//! issued at start, lives for a short time and is replaced while running. Every file is 0600.

mod authority;
mod cluster;
mod error;
pub(crate) mod files;
mod kubeconfig;
mod pin;
mod profile;
mod rotation;
mod signing;
mod tls;

pub use authority::{Authority, Issued};
pub use cluster::{Pki, Settings};
pub use error::Error;
pub use kubeconfig::{Kubeconfig, render as render_kubeconfig};
pub use pin::{Pin, PinnedAuthority};
pub use profile::{Names, Profile, Usage, component, node};
pub use rotation::Rotating;
pub use signing::{SigningKey, VerifyingKey};
pub use tls::{ServerTls, client_config, provider, server_config};
