//! hostPath: a path of the node, checked (and made) as its type says.

use std::fs::{self, Metadata};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::VolumeError;

/// Checks the path against the type; the empty type is no check.
pub fn set_up(path: &Path, kind: &str) -> Result<(), VolumeError> {
    let shown = path.display();
    let failed = |what: &str| Err(VolumeError::HostPath(format!("{shown} is not {what}")));
    let found = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(VolumeError::io("stat", path)(error)),
    };
    let is = |test: fn(&Metadata) -> bool| found.as_ref().is_some_and(test);
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_none() => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(VolumeError::io("create directory", path)),
        "FileOrCreate" if found.is_none() => fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)
            .map(drop)
            .map_err(VolumeError::io("create", path)),
        "Directory" | "DirectoryOrCreate" if !is(Metadata::is_dir) => failed("a directory"),
        "File" | "FileOrCreate" if !is(Metadata::is_file) => failed("a file"),
        "Socket" if !is(|m| m.file_type().is_socket()) => failed("a socket file"),
        "CharDevice" if !is(|m| m.file_type().is_char_device()) => failed("a character device"),
        "BlockDevice" if !is(|m| m.file_type().is_block_device()) => failed("a block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(()),
        other => Err(VolumeError::HostPath(format!("{other} is an invalid volume type"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (there, absent) = (dir.path().join("file"), dir.path().join("deep/dir"));
        fs::write(&there, "").expect("writable");
        assert!(set_up(&there, "File").is_ok());
        let error = set_up(&there, "Directory").expect_err("a file");
        assert_eq!(
            error.to_string(),
            format!("hostPath type check failed: {} is not a directory", there.display())
        );
        assert!(set_up(&absent, "Directory").is_err());
        assert!(set_up(&absent, "").is_ok());
        assert!(set_up(&absent, "DirectoryOrCreate").is_ok());
        assert!(absent.is_dir());
        assert!(set_up(&dir.path().join("new"), "FileOrCreate").is_ok());
        assert!(set_up(&there, "Socket").is_err());
    }
}
