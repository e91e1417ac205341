//! `knarr version`.

use std::process::ExitCode;

/// The Kubernetes version that is served, and ours.
pub const LONG: &str = concat!("v1.37.0+knarr.", env!("CARGO_PKG_VERSION"));

pub fn run() -> anyhow::Result<ExitCode> {
    say!("{LONG}");
    Ok(ExitCode::SUCCESS)
}
