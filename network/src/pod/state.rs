//! What survives a restart: one small file per attached pod.

use std::path::{Path, PathBuf};

use super::{Attachment, Error};

/// The directory of attachment files.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    pub fn open(dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(|source| state("create", dir, source))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Every remembered attachment. A file that a crash left half-written is
    /// under its temporary name and is removed; one that cannot be read stops
    /// the start, since its address might be in use.
    pub fn load(&self) -> Result<Vec<Attachment>, Error> {
        let entries = std::fs::read_dir(&self.dir).map_err(|source| state("list", &self.dir, source))?;
        let mut attachments = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| state("list", &self.dir, source))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => attachments.push(read(&path)?),
                Some("tmp") => remove(&path)?,
                _ => {}
            }
        }
        Ok(attachments)
    }

    /// Remembers `attachment` under `key`, replacing what was there at once.
    pub fn save(&self, key: &str, attachment: &Attachment) -> Result<(), Error> {
        let (path, temporary) = (self.path(key, "json"), self.path(key, "tmp"));
        let text =
            serde_json::to_vec(attachment).map_err(|source| Error::Corrupt { path: path.clone(), source })?;
        std::fs::write(&temporary, text).map_err(|source| state("write", &temporary, source))?;
        std::fs::rename(&temporary, &path).map_err(|source| state("rename", &temporary, source))
    }

    pub fn forget(&self, key: &str) -> Result<(), Error> {
        remove(&self.path(key, "json"))
    }

    fn path(&self, key: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{key}.{extension}"))
    }
}

fn read(path: &Path) -> Result<Attachment, Error> {
    let text = std::fs::read(path).map_err(|source| state("read", path, source))?;
    serde_json::from_slice(&text).map_err(|source| Error::Corrupt { path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(state("remove", path, source)),
        _ => Ok(()),
    }
}

fn state(step: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::State { step, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{AttachOptions, PodAddresses, PodIdentity};

    fn attachment(uid: &str) -> Attachment {
        Attachment {
            pod: PodIdentity { namespace: "default".into(), name: "web".into(), uid: uid.into() },
            netns: "/run/netns/web".into(),
            addresses: PodAddresses { ips: vec!["10.1.0.2".parse().expect("an address")] },
            options: AttachOptions::default(),
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_half_written_files_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("opens");
        store.save("a", &attachment("1")).expect("saves");
        store.save("a", &attachment("2")).expect("replaces");
        std::fs::write(dir.path().join("b.tmp"), "{").expect("writes");
        assert_eq!(store.load().expect("loads"), [attachment("2")]);
        assert!(!dir.path().join("b.tmp").exists());
        store.forget("a").expect("forgets");
        store.forget("a").expect("forgetting twice is fine");
        assert!(store.load().expect("loads").is_empty());
    }

    #[test]
    fn an_unreadable_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("c.json"), "{").expect("writes");
        let error = Store::open(dir.path()).expect("opens").load().expect_err("corrupt");
        assert!(error.to_string().contains("c.json"), "{error}");
    }
}
