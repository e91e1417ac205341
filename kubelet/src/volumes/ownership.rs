//! A pod's fsGroup on the files of a volume.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::VolumeError;
use crate::pod::spec;

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const EXECUTE: u32 = 0o110;
const SET_GID: u32 = 0o2000;

/// Which group owns a volume, and when it is enforced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ownership {
    pub group: Option<u32>,
    pub read_only: bool,
    /// `fsGroupChangePolicy: OnRootMismatch`: a root that is right vouches for what is below.
    pub on_root_mismatch: bool,
}

impl Ownership {
    pub fn of(pod: &Pod) -> Self {
        let context = spec::spec(pod).security_context.as_ref();
        Self {
            group: context.and_then(|c| c.fs_group).and_then(|group| u32::try_from(group).ok()),
            read_only: false,
            on_root_mismatch: context.and_then(|c| c.fs_group_change_policy.as_deref())
                == Some("OnRootMismatch"),
        }
    }

    pub fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// Gives the tree to the group.
    pub fn apply(&self, root: &Path) -> Result<(), VolumeError> {
        let Some(group) = self.group else { return Ok(()) };
        if self.on_root_mismatch && self.root_matches(root, group)? {
            return Ok(());
        }
        // The root last: an interrupted run then still mismatches.
        self.below(root, group)?;
        self.one(root, group)
    }

    fn mask(&self, directory: bool) -> u32 {
        let mask = if self.read_only { READ_ONLY } else { READ_WRITE };
        if directory { mask | SET_GID | EXECUTE } else { mask }
    }

    fn root_matches(&self, root: &Path, group: u32) -> Result<bool, VolumeError> {
        let meta = fs::metadata(root).map_err(VolumeError::io("stat", root))?;
        let mask = self.mask(true);
        Ok(meta.gid() == group && meta.mode() & mask == mask)
    }

    fn below(&self, dir: &Path, group: u32) -> Result<(), VolumeError> {
        for entry in fs::read_dir(dir).map_err(VolumeError::io("list", dir))? {
            let entry = entry.map_err(VolumeError::io("list", dir))?;
            let kind = entry.file_type().map_err(VolumeError::io("stat", entry.path()))?;
            if kind.is_dir() {
                self.below(&entry.path(), group)?;
            }
            self.one(&entry.path(), group)?;
        }
        Ok(())
    }

    fn one(&self, path: &Path, group: u32) -> Result<(), VolumeError> {
        let meta = fs::symlink_metadata(path).map_err(VolumeError::io("stat", path))?;
        lchown(path, None, Some(group)).map_err(VolumeError::io("chown", path))?;
        if meta.file_type().is_symlink() {
            return Ok(());
        }
        let mode = meta.permissions().mode() | self.mask(meta.is_dir());
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(VolumeError::io("chmod", path))
    }
}
