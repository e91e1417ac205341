//! The drivers that have registered on this node, and the paths they speak of.
//!
//! Drivers and their manifests take upstream's `/var/lib/kubelet` for granted, while every cluster on this machine has a
//! directory of its own. So pods that mount a host path below `/var/lib/kubelet` get this agent's directory there, and
//! a driver that names its socket below `/var/lib/kubelet` is spoken to in those paths. One that names its socket
//! elsewhere runs on the host itself and is told the paths as they are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

/// Where the world believes the kubelet's directory to be.
pub const CONVENTION: &str = "/var/lib/kubelet";

/// The agent's directory, and what it is called outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// What `path` means here: paths below the conventional directory are in this agent's.
    pub fn here(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(CONVENTION) {
            Ok(below) if below.as_os_str().is_empty() => self.0.clone(),
            Ok(below) => self.0.join(below),
            Err(_) => path.to_owned(),
        }
    }

    fn conventional(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.0) {
            Ok(below) => Path::new(CONVENTION).join(below),
            Err(_) => path.to_owned(),
        }
    }
}

/// A registered driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    pub name: String,
    /// Of its node service.
    pub socket: PathBuf,
    pub version: Version,
    /// It calls this agent's directory by the conventional name.
    conventional: bool,
    root: Root,
}

impl Driver {
    /// `endpoint` as the driver names it.
    pub fn new(name: &str, endpoint: &str, version: Version, root: &Root) -> Self {
        let endpoint = Path::new(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
        Self {
            name: name.to_owned(),
            socket: root.here(endpoint),
            version,
            conventional: endpoint.starts_with(CONVENTION),
            root: root.clone(),
        }
    }

    /// A path of ours in the driver's words.
    pub fn path(&self, path: &Path) -> String {
        let path = if self.conventional { self.root.conventional(path) } else { path.to_owned() };
        path.to_string_lossy().into_owned()
    }
}

/// `1.0.0`: numbers, compared one by one; zeros at the end make no difference.
#[derive(Debug, Clone)]
pub struct Version(Vec<u64>);

impl Version {
    /// At least two numbers; what follows them is of no interest.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let numbers: Option<Vec<u64>> =
            text[..end].trim_end_matches('.').split('.').map(|number| number.parse().ok()).collect();
        numbers.filter(|numbers| numbers.len() >= 2).map(Self)
    }

    /// The newest 1.x of what a driver speaks.
    fn highest(versions: &[String]) -> Result<Self, String> {
        let shown = versions.join(" ");
        let readable =
            versions.iter().filter_map(|text| Self::parse(text)).filter(|version| version.0[0] <= 1);
        match readable.max() {
            None => Err(format!(
                "could not find a highest supported version from versions ([{shown}]) reported: <nil>"
            )),
            Some(version) if version.0[0] != 1 => {
                Err(format!("highest supported version reported is {version}, must be v1.x"))
            }
            Some(version) => Ok(version),
        }
    }
}

impl Version {
    fn significant(&self) -> &[u64] {
        let end = self.0.iter().rposition(|number| *number != 0).map_or(0, |last| last + 1);
        &self.0[..end]
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.significant().cmp(other.significant())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// By name.
pub struct Drivers {
    known: RwLock<HashMap<String, Arc<Driver>>>,
    changes: watch::Sender<u64>,
}

impl Default for Drivers {
    fn default() -> Self {
        Self { known: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl Drivers {
    /// The error is upstream's.
    pub fn get(&self, name: &str) -> Result<Arc<Driver>, String> {
        let found = self.known.read().get(name).cloned();
        found.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }

    /// Takes a driver in, unless its name is taken by one that is as new. Nobody hears of it yet.
    pub fn add(&self, driver: Driver) -> Result<Arc<Driver>, String> {
        let mut known = self.known.write();
        if let Some(existing) = known.get(&driver.name).filter(|existing| existing.version >= driver.version)
        {
            return Err(taken("RegisterPlugin", existing));
        }
        let driver = Arc::new(driver);
        known.insert(driver.name.clone(), Arc::clone(&driver));
        Ok(driver)
    }

    pub fn remove(&self, name: &str) {
        self.known.write().remove(name);
    }

    /// A driver can be used.
    pub fn announce(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Tells of every driver that comes.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether a driver of this name and these versions may register; `caller` is named in the error.
    pub fn check(&self, caller: &str, name: &str, versions: &[String]) -> Result<Version, String> {
        if versions.is_empty() {
            return Err(failed(caller, name, "Plugin returned an empty list for supported versions"));
        }
        let highest = Version::highest(versions).map_err(|error| {
            let quoted: Vec<String> = versions.iter().map(|version| format!("{version:?}")).collect();
            let quoted = quoted.join(" ");
            failed(
                caller,
                name,
                &format!("None of the versions specified [{quoted}] are supported. err={error}"),
            )
        })?;
        match self.known.read().get(name) {
            Some(existing) if existing.version >= highest => Err(taken(caller, existing)),
            _ => Ok(highest),
        }
    }
}

fn failed(caller: &str, name: &str, why: &str) -> String {
    format!("kubernetes.io/csi: {caller} for CSI driver {name:?} failed. {why}")
}

fn taken(caller: &str, existing: &Driver) -> String {
    let why = format!(
        "Another driver with the same name is already registered with a higher supported version: \"{}\"",
        existing.version
    );
    failed(caller, &existing.name, &why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_hears_paths_as_it_names_its_socket() {
        let (root, version) = (Root::new("/data/kubelet"), Version(vec![1, 0]));
        let ours = Path::new("/data/kubelet/pods/u/volumes/v/mount");
        let in_pod = Driver::new("d", "/var/lib/kubelet/plugins/d/csi.sock", version.clone(), &root);
        assert_eq!(in_pod.socket, Path::new("/data/kubelet/plugins/d/csi.sock"));
        assert_eq!(in_pod.path(ours), "/var/lib/kubelet/pods/u/volumes/v/mount");
        let on_host = Driver::new("d", "unix:///run/d.sock", version, &root);
        assert_eq!(on_host.socket, Path::new("/run/d.sock"));
        assert_eq!(on_host.path(ours), "/data/kubelet/pods/u/volumes/v/mount");
        assert_eq!(root.here(Path::new("/var/lib/kubelet")), Path::new("/data/kubelet"));
        assert_eq!(root.here(Path::new("/var/lib/kubelet-other/x")), Path::new("/var/lib/kubelet-other/x"));
    }

    #[test]
    fn only_version_one_may_register_and_only_once() {
        let drivers = Drivers::default();
        let check = |versions: &[&str]| {
            drivers.check(
                "ValidatePlugin",
                "d",
                &versions.iter().map(ToString::to_string).collect::<Vec<_>>(),
            )
        };
        assert_eq!(check(&["0.3.0", "1.0.0", "2.0"]).expect("1.0.0 it is").to_string(), "1.0.0");
        for wrong in [&[][..], &["0.3.0"], &["2.0.0"], &["1"], &["new"]] {
            check(wrong).expect_err("no version 1");
        }
        let version = check(&["1.2"]).expect("supported");
        drivers.add(Driver::new("d", "/d.sock", version, &Root::new("/k"))).expect("the first");
        check(&["1.3"]).expect("newer");
        let error = check(&["1.2.0-rc", "1.1"]).expect_err("not newer");
        assert_eq!(
            error,
            "kubernetes.io/csi: ValidatePlugin for CSI driver \"d\" failed. Another driver with the same name is \
             already registered with a higher supported version: \"1.2\""
        );
    }
}
