//! Cgroups of pods and containers, version 1, version 2 and the mixed layout.
//!
//! Paths are relative to the hierarchies' roots and start with `/`. All of ours live below one prefix per cluster,
//! so that clusters on one machine do not meet and removal knows what is ours.

pub mod devices;
mod members;
mod mounts;
mod stats;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::cri::Resources;
use devices::Rule;
use mounts::Hierarchy;
pub use stats::Stats;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup")]
    NoHierarchy,
    #[error("cgroup {0:?} is not a path below the cluster's")]
    InvalidPath(String),
    #[error("cgroup {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("cgroup {path}: cannot set {file} to {value:?}: {source}")]
    Write { path: PathBuf, file: String, value: String, source: io::Error },
    #[error("cgroup {path}: device filter: {source}")]
    Devices { path: PathBuf, source: io::Error },
    #[error("cgroup {0} still has processes after they were killed")]
    Busy(PathBuf),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Controllers that limits and statistics need.
const NEEDED: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "hugetlb"];

/// The machine's hierarchies and this cluster's place in them.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    unified: bool,
    prefix: String,
}

impl Cgroups {
    /// `prefix`: one path element or more, such as `/knarr-default`.
    pub fn detect(prefix: &str) -> Result<Self> {
        let hierarchies = mounts::hierarchies()
            .map_err(|source| Error::Io { path: "/proc/self/mountinfo".into(), source })?;
        let unified = hierarchies.iter().any(|hierarchy| hierarchy.unified);
        if hierarchies.is_empty() {
            return Err(Error::NoHierarchy);
        }
        Ok(Cgroups { hierarchies, unified, prefix: format!("/{}", normal(prefix)?) })
    }

    pub fn is_unified(&self) -> bool {
        self.unified
    }

    /// Needed controllers that this machine does not have: their limits are not enforced.
    pub fn missing_controllers(&self) -> Vec<&'static str> {
        let present: BTreeSet<&str> =
            self.hierarchies.iter().flat_map(|h| h.controllers.iter().map(String::as_str)).collect();
        NEEDED.into_iter().filter(|controller| !present.contains(controller)).collect()
    }

    /// The path below the hierarchies' roots, with the cluster's prefix.
    pub fn full_path(&self, cgroup: &str) -> Result<String> {
        let normal = normal(cgroup)?;
        Ok(if normal.is_empty() { self.prefix.clone() } else { format!("{}/{normal}", self.prefix) })
    }

    /// The directory in every hierarchy.
    pub fn directories(&self, cgroup: &str) -> Result<Vec<PathBuf>> {
        let path = self.full_path(cgroup)?;
        Ok(self.hierarchies.iter().map(|hierarchy| hierarchy.directory(&path)).collect())
    }

    /// Creates the cgroup where it is missing, and its parents.
    pub fn create(&self, cgroup: &str) -> Result<()> {
        let path = self.full_path(cgroup)?;
        for hierarchy in &self.hierarchies {
            if hierarchy.unified { v2::create(hierarchy, &path) } else { v1::create(hierarchy, &path) }?;
        }
        Ok(())
    }

    /// Creates or updates the cgroup with these limits. Zero and empty values mean the kernel's defaults, and are
    /// written as such only with `reset`: a new cgroup has them already.
    pub fn apply(&self, cgroup: &str, resources: &Resources, reset: bool) -> Result<()> {
        self.create(cgroup)?;
        let path = self.full_path(cgroup)?;
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.directory(&path);
            if hierarchy.unified {
                v2::apply(hierarchy, &directory, resources, reset)?;
            } else {
                v1::apply(hierarchy, &directory, resources, reset)?;
            }
        }
        Ok(())
    }

    /// Which devices the cgroup's processes may use.
    pub fn restrict_devices(&self, cgroup: &str, rules: &[Rule]) -> Result<()> {
        let path = self.full_path(cgroup)?;
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.directory(&path);
            if hierarchy.unified {
                devices::attach_filter(&directory, rules)
                    .map_err(|source| Error::Devices { path: directory.clone(), source })?;
            } else if hierarchy.has("devices") {
                v1::restrict_devices(&directory, rules)?;
            }
        }
        Ok(())
    }

    /// Kills what is left in the cgroup and below, and removes it. Gone already is fine.
    pub fn remove(&self, cgroup: &str) -> Result<()> {
        let path = self.full_path(cgroup)?;
        for hierarchy in &self.hierarchies {
            members::remove_tree(&hierarchy.directory(&path))?;
        }
        Ok(())
    }

    /// Names of the cgroups directly below.
    pub fn children(&self, cgroup: &str) -> Result<Vec<String>> {
        let path = self.full_path(cgroup)?;
        let mut names = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.directory(&path);
            match members::children(&directory) {
                Ok(children) => {
                    names.extend(children.iter().filter_map(|c| Some(c.file_name()?.to_str()?.to_owned())))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { path: directory, source }),
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Kills every process in the cgroup and below, and waits until they are gone.
    pub fn kill(&self, cgroup: &str) -> Result<()> {
        let path = self.full_path(cgroup)?;
        for hierarchy in &self.hierarchies {
            members::kill_tree(&hierarchy.directory(&path))?;
        }
        Ok(())
    }

    /// Usage; `/` is the whole machine. A controller that is missing counts nothing.
    pub fn stats(&self, cgroup: &str) -> Result<Stats> {
        let path = if normal(cgroup)?.is_empty() { String::new() } else { self.full_path(cgroup)? };
        let mut stats = Stats::default();
        for hierarchy in &self.hierarchies {
            stats.add(hierarchy, &hierarchy.directory(&path), path.is_empty());
        }
        Ok(stats)
    }

    /// The limits in force.
    pub fn limits(&self, cgroup: &str) -> Result<Resources> {
        let path = self.full_path(cgroup)?;
        let mut resources = Resources::default();
        for hierarchy in &self.hierarchies {
            let directory = hierarchy.directory(&path);
            if hierarchy.unified {
                v2::read_limits(&directory, &mut resources);
            } else {
                v1::read_limits(hierarchy, &directory, &mut resources);
            }
        }
        Ok(resources)
    }

    /// The file that counts processes killed for lack of memory.
    pub fn oom_events(&self, cgroup: &str) -> Result<Option<PathBuf>> {
        let path = self.full_path(cgroup)?;
        Ok(self.hierarchies.iter().find(|h| h.has("memory")).map(|hierarchy| {
            let file = if hierarchy.unified { "memory.events" } else { "memory.oom_control" };
            hierarchy.directory(&path).join(file)
        }))
    }

    /// `cgroup.procs` files through which a new shim leaves the agent's cgroups, so that whoever kills those does
    /// not kill the shims. Hierarchies where the agent sits in the root need no move.
    pub fn shim_membership(&self, cgroup: &str) -> Result<Vec<PathBuf>> {
        self.create(cgroup)?;
        let path = self.full_path(cgroup)?;
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Ok(self
            .hierarchies
            .iter()
            .filter(|hierarchy| !hierarchy.holds_at_root(&own))
            .map(|hierarchy| hierarchy.directory(&path).join("cgroup.procs"))
            .collect())
    }
}

/// Strips slashes at the ends; refuses whatever could name another place.
fn normal(cgroup: &str) -> Result<String> {
    let elements: Vec<&str> = cgroup.split('/').filter(|element| !element.is_empty()).collect();
    if elements.iter().any(|element| matches!(*element, "." | "..") || element.contains('\0')) {
        return Err(Error::InvalidPath(cgroup.to_owned()));
    }
    Ok(elements.join("/"))
}

/// Writes one control file.
fn write(directory: &Path, file: &str, value: &str) -> Result<()> {
    std::fs::write(directory.join(file), value).map_err(|source| Error::Write {
        path: directory.to_owned(),
        file: file.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Writes a control file that not every kernel or configuration has.
fn write_optional(directory: &Path, file: &str, value: &str) -> Result<()> {
    match write(directory, file, value) {
        Err(Error::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// One number from a control file; `max` and absence are `None`.
fn read_number(directory: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_prefix() {
        assert_eq!(normal("//kubepods/podx/").expect("a path"), "kubepods/podx");
        assert!(normal("/kubepods/../..").is_err());
    }
}
