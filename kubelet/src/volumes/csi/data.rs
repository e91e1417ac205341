//! What is written beside mounts, where mounts go, and who has which volume: read from files, so that it outlives agents.
//!
//! ```text
//!   pods/<uid>/volumes/kubernetes.io~csi/<name>/{vol_data.json, mount}               files of a pod
//!   pods/<uid>/volumeDevices/kubernetes.io~csi/<name>                                link to a pod's device
//!   plugins/kubernetes.io/csi/<driver>/<hash of handle>/{vol_data.json, globalmount} staged files
//!   plugins/kubernetes.io/csi/volumeDevices/<name>/data/vol_data.json                a device of any pod
//!   plugins/kubernetes.io/csi/volumeDevices/{staging/<name>, publish/<name>/<uid>}   its mounts
//! ```

use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::wanted::{Wanted, hash, key};
use super::{PLUGIN, VolumeError};
use crate::volumes::mounts;

const FILE: &str = "vol_data.json";
/// No file of ours is nearly as large.
const MAX_SIZE: u64 = 64 << 10;
const ESCAPED: &str = "kubernetes.io~csi";
const DEVICES: &str = "volumeDevices";

/// The file beside a mount; names are upstream's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeData {
    #[serde(rename = "specVolID", skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub volume_handle: String,
    pub driver_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    #[serde(rename = "attachmentID", skip_serializing_if = "String::is_empty")]
    pub attachment: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_lifecycle_mode: String,
}

impl VolumeData {
    pub fn of(wanted: &Wanted, node: &str) -> Self {
        Self {
            name: wanted.name.clone(),
            volume_handle: wanted.handle.clone(),
            driver_name: wanted.driver.clone(),
            node_name: node.to_owned(),
            attachment: wanted.attachment(node),
            volume_lifecycle_mode: wanted.lifecycle.to_owned(),
        }
    }

    pub fn key(&self) -> String {
        key(&self.driver_name, &self.volume_handle)
    }

    /// Makes the directory and writes the file into it.
    pub fn save(&self, directory: &Path) -> Result<(), VolumeError> {
        make(directory)?;
        let (file, fresh) = (directory.join(FILE), directory.join(".vol_data.json.new"));
        let text = serde_json::to_string(self).unwrap_or_default();
        // Whole or not at all: whoever reads it must know what to undo.
        fs::write(&fresh, text + "\n").map_err(VolumeError::io("save volume data file", &fresh))?;
        fs::rename(&fresh, &file).map_err(VolumeError::io("save volume data file", &file))
    }

    /// `None`: there is none.
    pub fn load(directory: &Path) -> Result<Option<Self>, VolumeError> {
        let file = directory.join(FILE);
        let opened = match fs::File::open(&file) {
            Ok(opened) => opened,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(VolumeError::io("open volume data file", file)(error)),
        };
        let mut text = Vec::new();
        opened
            .take(MAX_SIZE)
            .read_to_end(&mut text)
            .map_err(VolumeError::io("read volume data file", &file))?;
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            super::log(format_args!("failed to parse volume data file [{}]: {error}", file.display()))
        })
    }
}

pub fn make(directory: &Path) -> Result<(), VolumeError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o750).create(directory);
    made.map_err(VolumeError::io("create directory", directory))
}

/// A mount and the directory of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub data: VolumeData,
    pub directory: PathBuf,
    pub target: PathBuf,
    /// A link to a device in the pod's directory.
    pub link: Option<PathBuf>,
}

/// Where files are shown to a pod.
pub fn files_of_pod(pod_dir: &Path, name: &str) -> PathBuf {
    pod_dir.join("volumes").join(ESCAPED).join(name)
}

/// Where files are staged.
pub fn staged_files(root: &Path, driver: &str, handle: &str) -> PathBuf {
    root.join("plugins").join(PLUGIN).join(driver).join(hash(&[handle]))
}

/// Everything of one device.
pub struct DevicePaths {
    pub data: PathBuf,
    pub staging: PathBuf,
    publish: PathBuf,
}

impl DevicePaths {
    pub fn new(root: &Path, name: &str) -> Self {
        let devices = root.join("plugins").join(PLUGIN).join(DEVICES);
        Self {
            data: devices.join(name).join("data"),
            staging: devices.join("staging").join(name),
            publish: devices.join("publish").join(name),
        }
    }

    pub fn published(&self, uid: &str) -> PathBuf {
        self.publish.join(uid)
    }

    /// The device has gone from this node.
    pub fn remove(&self) -> Result<(), VolumeError> {
        // The first is two directories deep.
        let own = self.data.parent().unwrap_or(&self.data);
        for directory in [&self.staging, &self.publish, own] {
            mounts::remove_tree(directory)?;
        }
        Ok(())
    }
}

/// The link to a pod's device.
pub fn device_of_pod(pod_dir: &Path, name: &str) -> PathBuf {
    pod_dir.join(DEVICES).join(ESCAPED).join(name)
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, VolumeError> {
    let list = VolumeError::io("list", directory);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(list(error)),
    };
    entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(list)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The volumes a pod has.
pub fn of_pod(root: &Path, pod_dir: &Path) -> Result<Vec<Place>, VolumeError> {
    let mut places = Vec::new();
    for directory in children(&pod_dir.join("volumes").join(ESCAPED))? {
        if let Some(data) = VolumeData::load(&directory)? {
            let target = directory.join("mount");
            places.push(Place { data, directory, target, link: None });
        }
    }
    let uid = name_of(pod_dir);
    for link in children(&pod_dir.join(DEVICES).join(ESCAPED))? {
        let paths = DevicePaths::new(root, &name_of(&link));
        if let Some(data) = VolumeData::load(&paths.data)? {
            let target = paths.published(&uid);
            places.push(Place { data, directory: paths.data, target, link: Some(link) });
        }
    }
    Ok(places)
}

/// Keys of the volumes that any pod has.
pub fn used(root: &Path) -> Result<HashSet<String>, VolumeError> {
    let mut keys = HashSet::new();
    for pod_dir in children(&root.join("pods"))? {
        keys.extend(of_pod(root, &pod_dir)?.into_iter().map(|place| place.data.key()));
    }
    Ok(keys)
}

/// The volumes that are staged.
pub fn staged(root: &Path) -> Result<Vec<Place>, VolumeError> {
    let mut places = Vec::new();
    let plugin = root.join("plugins").join(PLUGIN);
    for driver in children(&plugin)?.iter().filter(|driver| name_of(driver) != DEVICES) {
        for directory in children(driver)? {
            if let Some(data) = VolumeData::load(&directory)? {
                let target = directory.join("globalmount");
                places.push(Place { data, directory, target, link: None });
            }
        }
    }
    for directory in children(&plugin.join(DEVICES))? {
        let paths = DevicePaths::new(root, &name_of(&directory));
        if let Some(data) = VolumeData::load(&paths.data)? {
            places.push(Place { data, directory: paths.data, target: paths.staging, link: None });
        }
    }
    Ok(places)
}

/// Removes a mount's directory, its data and what they are in, if nothing is mounted any more.
pub fn remove_mount(target: &Path, directory: &Path) -> Result<(), VolumeError> {
    if target.exists() && mounts::below(target)?.iter().any(|mounted| mounted == target) {
        return Ok(());
    }
    let absent = |result: std::io::Result<()>, path: &Path| match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(VolumeError::io("remove", path)(error)),
        _ => Ok(()),
    };
    // Never more than the directory itself: files in it would be the volume's.
    absent(
        fs::remove_dir(target).or_else(|error| match error.kind() {
            ErrorKind::NotADirectory => fs::remove_file(target),
            _ => Err(error),
        }),
        target,
    )?;
    let file = directory.join(FILE);
    absent(fs::remove_file(&file), &file)?;
    absent(fs::remove_dir(directory), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(name: &str) -> VolumeData {
        VolumeData {
            name: name.to_owned(),
            volume_handle: format!("h-{name}"),
            driver_name: "d".to_owned(),
            ..VolumeData::default()
        }
    }

    #[test]
    fn files_tell_who_has_which_volume() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (root, pod_dir) = (root.path(), root.path().join("pods/u"));
        assert!(used(root).expect("nothing yet").is_empty() && staged(root).expect("nothing yet").is_empty());
        data("a").save(&files_of_pod(&pod_dir, "a")).expect("saved");
        data("b").save(&DevicePaths::new(root, "b").data).expect("saved");
        let link = device_of_pod(&pod_dir, "b");
        make(link.parent().expect("it has one")).expect("made");
        std::os::unix::fs::symlink("/dev/null", &link).expect("linked");
        data("c").save(&staged_files(root, "d", "h-c")).expect("saved");
        let keys: HashSet<String> = ["d^h-a", "d^h-b"].map(ToOwned::to_owned).into();
        assert_eq!(used(root).expect("read"), keys);
        let names: Vec<String> =
            staged(root).expect("read").into_iter().map(|place| place.data.name).collect();
        assert_eq!(names, ["c", "b"]);
        let places = of_pod(root, &pod_dir).expect("read");
        assert_eq!(places[0].target, pod_dir.join("volumes/kubernetes.io~csi/a/mount"));
        assert_eq!(places[1].link.as_deref(), Some(link.as_path()));
    }

    #[test]
    fn a_file_is_read_as_upstream_writes_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert_eq!(VolumeData::load(directory.path()).expect("absent is fine"), None);
        let text = r#"{"attachmentID":"csi-1","driverName":"d","nodeName":"n","specVolID":"pv","volumeHandle":"h","volumeLifecycleMode":"Persistent"}"#;
        fs::write(directory.path().join(FILE), text).expect("written");
        let loaded = VolumeData::load(directory.path()).expect("readable").expect("there");
        assert_eq!((loaded.key().as_str(), loaded.attachment.as_str()), ("d^h", "csi-1"));
        loaded.save(directory.path()).expect("saved");
        assert_eq!(VolumeData::load(directory.path()).expect("readable"), Some(loaded));
        fs::write(directory.path().join(FILE), "{").expect("written");
        VolumeData::load(directory.path()).expect_err("broken");
    }

    #[test]
    fn files_of_a_volume_are_never_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let own = directory.path().join("v");
        data("a").save(&own).expect("saved");
        make(&own.join("mount/file")).expect("made");
        remove_mount(&own.join("mount"), &own).expect_err("something is in it");
        assert!(own.join("mount/file").exists());
        fs::remove_dir(own.join("mount/file")).expect("removed");
        remove_mount(&own.join("mount"), &own).expect("empty now");
        assert!(!own.exists());
        remove_mount(&own.join("mount"), &own).expect("nothing to do");
    }
}
