//! One server per data directory, and how others find its process.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::ending;

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("server.lock")
}

/// Held by a running server for as long as it lives; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    /// Closing the file is not enough: a process that is just being started has it too, until its program begins.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "cannot unlock the data directory");
        }
    }
}

impl Lock {
    /// Takes the lock and leaves the process id for others to read.
    pub fn take(data_dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data_dir)
            .with_context(|| format!("creating data directory {}: pass --data-dir", data_dir.display()))?;
        let path = path(data_dir);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file =
            options.open(&path).with_context(|| format!("opening {}: pass --data-dir", path.display()))?;
        let holder = if file.try_lock().is_ok() { None } else { Some(read_pid(&mut file)) };
        if let Some(pid) = holder
            && !(pid.is_some_and(ending::outlast) && file.try_lock().is_ok())
        {
            let holder = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            bail!("{} is in use by another server{holder}: stop it with `knarr down`", data_dir.display());
        }
        file.rewind()?;
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }

    /// The process that holds the lock, if one does.
    pub fn holder(data_dir: &Path) -> anyhow::Result<Option<u32>> {
        let path = path(data_dir);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
        };
        if file.try_lock_shared().is_ok() {
            return Ok(None);
        }
        let Some(pid) = read_pid(&mut file) else {
            bail!("{} is locked but names no process", path.display())
        };
        // Somebody killed it just now, and wants to go on without it.
        if ending::outlast(pid) && file.try_lock_shared().is_ok() {
            return Ok(None);
        }
        Ok(Some(pid))
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_server_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(Lock::holder(directory.path()).expect("asks"), None);
        let lock = Lock::take(directory.path()).expect("takes");
        assert_eq!(Lock::holder(directory.path()).expect("asks"), Some(std::process::id()));
        let error = Lock::take(directory.path()).expect_err("taken").to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        let of_a_child = lock.0.try_clone().expect("a copy, as a process has that is being started");
        drop(lock);
        assert_eq!(Lock::holder(directory.path()).expect("asks"), None);
        drop(of_a_child);
    }
}
