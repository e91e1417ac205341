//! Device nodes in the container and the rules that let it use them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{Value, json};

use super::{Error, Result};
use crate::cgroup::devices::{DeviceKind, Rule};
use crate::cri::{ContainerConfig, Device};

#[derive(Debug)]
pub struct Devices {
    /// Entries of the spec's `linux.devices`; libcontainer makes the usual ones (null, zero, ...) itself.
    pub nodes: Vec<Value>,
    pub rules: Vec<Rule>,
}

pub fn devices(config: &ContainerConfig) -> Result<Devices> {
    let mut found = Devices { nodes: Vec::new(), rules: Rule::defaults() };
    if config.security.privileged {
        found.rules = vec![Rule::everything()];
        add_all(Path::new("/dev"), &mut found.nodes)
            .map_err(|source| Error::Io { doing: "list the devices of the node".to_owned(), source })?;
        return Ok(found);
    }
    for device in &config.devices {
        add(device, &mut found)?;
    }
    Ok(found)
}

fn add(device: &Device, found: &mut Devices) -> Result<()> {
    let host = Path::new(&device.host_path);
    let invalid = |reason: String| Error::Invalid(format!("device {:?}: {reason}", device.host_path));
    let metadata = std::fs::metadata(host).map_err(|error| invalid(error.to_string()))?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(host).map_err(|error| invalid(error.to_string()))? {
            let name = entry.map_err(|error| invalid(error.to_string()))?.file_name();
            let name = name.to_string_lossy();
            let inner = Device {
                container_path: format!("{}/{name}", device.container_path),
                host_path: format!("{}/{name}", device.host_path),
                permissions: device.permissions.clone(),
            };
            if std::fs::metadata(&inner.host_path).is_ok_and(|m| kind(&m).is_some()) {
                add(&inner, found)?;
            }
        }
        return Ok(());
    }
    let kind = kind(&metadata).ok_or_else(|| invalid("not a device node".to_owned()))?;
    let (major, minor) = numbers(&metadata);
    found.nodes.push(node(&device.container_path, &metadata, kind));
    let may = |letter: char| device.permissions.is_empty() || device.permissions.contains(letter);
    found.rules.push(Rule {
        kind,
        major: Some(major),
        minor: Some(minor),
        read: may('r'),
        write: may('w'),
        mknod: may('m'),
    });
    Ok(())
}

/// What a container has of its own, so that the node's does not belong there.
const OWN: [&str; 12] =
    ["console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"];

fn add_all(directory: &Path, nodes: &mut Vec<Value>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if directory == Path::new("/dev") && OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        // A device that is unplugged meanwhile is no error.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            add_all(&path, nodes)?;
        } else if let (Some(kind), Some(path)) = (kind(&metadata), path.to_str()) {
            nodes.push(node(path, &metadata, kind));
        }
    }
    Ok(())
}

fn kind(metadata: &std::fs::Metadata) -> Option<DeviceKind> {
    if metadata.file_type().is_char_device() {
        Some(DeviceKind::Character)
    } else if metadata.file_type().is_block_device() {
        Some(DeviceKind::Block)
    } else {
        None
    }
}

fn numbers(metadata: &std::fs::Metadata) -> (u32, u32) {
    (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))
}

fn node(path: &str, metadata: &std::fs::Metadata, kind: DeviceKind) -> Value {
    let (major, minor) = numbers(metadata);
    json!({
        "path": path,
        "type": if kind == DeviceKind::Block { "b" } else { "c" },
        "major": major,
        "minor": minor,
        "fileMode": metadata.mode() & 0o7777,
        "uid": metadata.uid(),
        "gid": metadata.gid(),
    })
}
