//! What a container sees mounted.

use std::path::Path;

use serde_json::{Value, json};

use super::{Error, Input, Result};
use crate::cri::{Mount, Propagation};

/// Destination, type, options; `ro` is added where the container is not privileged.
const DEFAULT: [(&str, &str, &[&str]); 5] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev"]),
];

pub fn mounts(input: &Input<'_>) -> Result<Vec<Value>> {
    let privileged = input.config.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let mut mounts: Vec<(String, Value)> = Vec::new();
    for (destination, kind, options) in DEFAULT {
        let mut options: Vec<&str> = options.to_vec();
        if kind == "sysfs" {
            options.push(access);
        }
        mounts.push((destination.to_owned(), mount(destination, kind, kind, &options)));
    }
    let options = ["nosuid", "noexec", "nodev", "relatime", access];
    mounts.push(("/sys/fs/cgroup".to_owned(), mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)));
    for sandbox in &input.sandbox_mounts {
        let source = sandbox.source.to_string_lossy();
        let access = if input.config.security.readonly_rootfs && !sandbox.destination.starts_with("/dev") {
            "ro"
        } else {
            "rw"
        };
        let value = mount(sandbox.destination, "bind", &source, &["rbind", "rprivate", access]);
        mounts.push((sandbox.destination.to_owned(), value));
    }
    for (index, volume) in input.config.mounts.iter().enumerate() {
        let image = input.image_volumes.get(index).and_then(Option::as_deref);
        let (destination, value) = volume_mount(volume, image)?;
        // The pod's own replace ours.
        mounts.retain(|(known, _)| *known != destination);
        mounts.push((destination, value));
    }
    // Parents before what is mounted in them.
    mounts.sort_by_key(|(destination, _)| Path::new(destination).components().count());
    Ok(mounts.into_iter().map(|(_, value)| value).collect())
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn volume_mount(volume: &Mount, image: Option<&Path>) -> Result<(String, Value)> {
    let source = image.unwrap_or(&volume.host_path);
    let destination = normal(&volume.container_path)?;
    if !source.exists() {
        return Err(Error::Invalid(format!(
            "failed to generate container spec: failed to stat {:?}: no such file or directory",
            source.display().to_string()
        )));
    }
    let propagation = match volume.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = match (volume.readonly, volume.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, _) => "rw",
    };
    let source = source.to_string_lossy();
    Ok((destination.clone(), mount(&destination, "bind", &source, &["rbind", propagation, access])))
}

/// An absolute path without dots; the container's root itself cannot be a mount.
fn normal(path: &str) -> Result<String> {
    let mut elements = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." => {
                elements.pop();
            }
            element => elements.push(element),
        }
    }
    if elements.is_empty() {
        return Err(Error::Invalid(format!("mount path {path:?} is the container's root")));
    }
    Ok(format!("/{}", elements.join("/")))
}
