//! Which clusters this machine has: one small file, held locked while it is read and changed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Cluster;

/// Below it each cluster has its data directory, unless told otherwise.
pub const ROOT: &str = "/var/lib/knarr";
const FILE: &str = "clusters.json";

/// The registry, locked against other knarr processes until it is dropped.
#[derive(Debug)]
pub struct Registry {
    root: PathBuf,
    file: File,
    clusters: Vec<Cluster>,
}

impl Registry {
    pub fn open() -> anyhow::Result<Self> {
        Self::open_at(Path::new(ROOT))
    }

    pub fn open_at(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(FILE);
        std::fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).with_context(|| format!("opening {}", path.display()))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            file.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
        let clusters = match text.trim() {
            "" => Vec::new(),
            text => serde_json::from_str(text).with_context(|| format!("{} is damaged", path.display()))?,
        };
        Ok(Self { root: root.to_owned(), file, clusters })
    }

    pub fn all(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter()
    }

    pub fn find(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    pub fn put(&mut self, cluster: Cluster) -> anyhow::Result<()> {
        self.clusters.retain(|other| other.name != cluster.name);
        self.clusters.push(cluster);
        self.save()
    }

    /// Forgets a cluster; the file and the directory go with the last one.
    pub fn remove(mut self, name: &str) -> anyhow::Result<()> {
        self.clusters.retain(|other| other.name != name);
        if !self.clusters.is_empty() {
            return self.save();
        }
        let path = self.root.join(FILE);
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        match std::fs::remove_dir(&self.root) {
            Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                Err(error).with_context(|| format!("removing {}", self.root.display()))
            }
            _ => Ok(()),
        }
    }

    fn save(&mut self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.clusters)?;
        // In place, because the lock is on this file; it is small enough for one write.
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(&text).with_context(|| format!("writing {}", self.root.join(FILE).display()))?;
        self.file.sync_all()?;
        Ok(())
    }
}
