//! What the binary tells the runtime.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::image::{Limits, RegistryConfig};

/// Settings of one embedded runtime. Two runtimes on a machine must differ in all directories and the prefix.
#[derive(Debug, Clone)]
pub struct Config {
    /// Images, containers and sandboxes: survives a restart of the machine.
    pub root: PathBuf,
    /// Pinned namespaces and mounts of sandboxes: may be lost with the machine's.
    pub state: PathBuf,
    /// The program whose main calls [`crate::shim::main`] for these arguments (usually our own, with `shim`).
    pub shim_executable: PathBuf,
    pub shim_arguments: Vec<OsString>,
    /// Where in the cgroup hierarchies everything lives, e.g. `/knarr-default`.
    pub cgroup_prefix: String,
    /// Seccomp profiles named by `Localhost`.
    pub seccomp_profiles: PathBuf,
    pub image_limits: Limits,
    pub registries: RegistryConfig,
}

impl Config {
    /// The usual places below one data directory, for the program that is running.
    pub fn below(data: &std::path::Path, shim_executable: PathBuf, cgroup_prefix: &str) -> Self {
        Config {
            root: data.join("runtime"),
            state: data.join("run"),
            shim_executable,
            shim_arguments: vec!["shim".into()],
            cgroup_prefix: cgroup_prefix.to_owned(),
            seccomp_profiles: data.join("seccomp"),
            image_limits: Limits::default(),
            registries: RegistryConfig { directory: Some(data.join("certs.d")) },
        }
    }
}
