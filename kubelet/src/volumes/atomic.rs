//! Files of a volume changed all at once, as upstream's atomic writer lays them out:
//!
//! ```text
//!   <dir>/..2026_11_22_14_00_00.123456789/config/a     the files
//!   <dir>/..data -> ..2026_11_22_14_00_00.123456789    replaced by one rename
//!   <dir>/config -> ..data/config                      what containers see
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::VolumeError;
use super::ownership::Ownership;
use super::payload::{File, Payload, check_path};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the volume show exactly these files; `true` when anything changed.
pub fn write(dir: &Path, payload: &Payload, owner: &Ownership, now: Timestamp) -> Result<bool, VolumeError> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    let same = old.as_ref().is_some_and(|old| shows(&dir.join(old), payload));
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    if same {
        // An earlier run may have ended between its steps.
        link_names(dir, &names)?;
        return Ok(false);
    }
    let fresh = new_directory(dir, now)?;
    write_files(&dir.join(&fresh), payload)?;
    owner.apply(&dir.join(&fresh))?;
    let temporary = dir.join(NEW_DATA);
    remove_if_there(&temporary)?;
    symlink(&fresh, &temporary).map_err(VolumeError::io("create symlink", &temporary))?;
    fs::rename(&temporary, dir.join(DATA)).map_err(VolumeError::io("replace", dir.join(DATA)))?;
    link_names(dir, &names)?;
    unlink_stale(dir, &names)?;
    if let Some(old) = old.filter(|old| *old != fresh) {
        let old = dir.join(old);
        fs::remove_dir_all(&old).map_err(VolumeError::io("remove", &old))?;
    }
    Ok(true)
}

fn new_directory(dir: &Path, now: Timestamp) -> Result<PathBuf, VolumeError> {
    let mut nanos = now.subsec_nanosecond().unsigned_abs();
    loop {
        let name = PathBuf::from(format!("..{}.{nanos:09}", now.strftime("%Y_%m_%d_%H_%M_%S")));
        let path = dir.join(&name);
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => {
                // Whatever the umask.
                let open = fs::Permissions::from_mode(0o755);
                fs::set_permissions(&path, open).map_err(VolumeError::io("chmod", &path))?;
                return Ok(name);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => nanos = nanos.wrapping_add(1),
            Err(source) => return Err(VolumeError::Io { doing: "create directory", path, source }),
        }
    }
}

fn write_files(root: &Path, payload: &Payload) -> Result<(), VolumeError> {
    for (relative, File { data, mode, uid }) in payload {
        let path = root.join(relative);
        if let Some(parent) = path.parent().filter(|parent| *parent != root) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(VolumeError::io("create directory", parent))?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(*mode)
            .open(&path)
            .map_err(VolumeError::io("create", &path))?;
        file.write_all(data).map_err(VolumeError::io("write", &path))?;
        file.set_permissions(fs::Permissions::from_mode(*mode)).map_err(VolumeError::io("chmod", &path))?;
        if uid.is_some() {
            std::os::unix::fs::chown(&path, *uid, None).map_err(VolumeError::io("chown", &path))?;
        }
    }
    Ok(())
}

/// Whether the directory has exactly these files with this content.
fn shows(dir: &Path, payload: &Payload) -> bool {
    fn collect(dir: &Path, prefix: &str, found: &mut Vec<String>) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                collect(&entry.path(), &format!("{name}/"), found)?;
            } else {
                found.push(name);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    if collect(dir, "", &mut found).is_err() || found.len() != payload.len() {
        return false;
    }
    payload.iter().all(|(path, file)| fs::read(dir.join(path)).is_ok_and(|data| data == file.data))
}

fn link_names(dir: &Path, names: &BTreeSet<&str>) -> Result<(), VolumeError> {
    for name in names {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(VolumeError::io("create symlink", &link))?;
        }
    }
    Ok(())
}

fn unlink_stale(dir: &Path, names: &BTreeSet<&str>) -> Result<(), VolumeError> {
    for entry in fs::read_dir(dir).map_err(VolumeError::io("list", dir))? {
        let entry = entry.map_err(VolumeError::io("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(DATA));
        if ours && !names.contains(&*name) {
            fs::remove_file(entry.path()).map_err(VolumeError::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(VolumeError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File { data: data.into(), mode: 0o640, uid: None };
        files.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("readable")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with("..2"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_volume_changes_all_at_once_and_forgets_what_went() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        let (path, owner) = (dir.path(), Ownership::default());
        assert!(write(path, &payload(&[("a", "1"), ("d/b", "2")]), &owner, now).expect("written"));
        assert_eq!(entries(path), ["..data", "a", "d"]);
        assert_eq!(fs::read_to_string(path.join("d/b")).expect("there"), "2");
        let mode = fs::metadata(path.join("a")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);

        assert!(!write(path, &payload(&[("a", "1"), ("d/b", "2")]), &owner, now).expect("same"));
        let before = fs::read_link(path.join(DATA)).expect("link");
        assert!(write(path, &payload(&[("a", "3")]), &owner, now).expect("changed"));
        assert_eq!(entries(path), ["..data", "a"]);
        assert_eq!(fs::read_to_string(path.join("a")).expect("there"), "3");
        assert!(!path.join(before).exists(), "the old files are gone");
    }

    #[test]
    fn hostile_names_are_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let result =
            write(dir.path(), &payload(&[("../x", "1")]), &Ownership::default(), Timestamp::UNIX_EPOCH);
        assert!(result.is_err());
        assert!(entries(dir.path()).is_empty());
    }
}
