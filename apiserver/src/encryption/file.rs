//! The configuration's file: made at the first start, read, and followed while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knarr_storage::Store;
use parking_lot::Mutex;

use super::config::{self, ConfigError};
use super::rules::Rules;
use super::store::Encrypted;
use crate::file_changes::FileChanges;
use crate::pki::{self, files};

const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] pki::Error),
    #[error("{path}: there is no such encryption provider configuration file")]
    Missing { path: PathBuf },
    #[error("error while parsing file {path}: {cause}")]
    Config { path: PathBuf, cause: ConfigError },
    #[error("making a key for {path}: no random bytes")]
    Random { path: PathBuf },
}

/// A configuration that is in use, and the file it comes from.
pub struct EncryptionFile {
    path: PathBuf,
    rules: Arc<ArcSwap<Rules>>,
    text: Mutex<String>,
}

impl EncryptionFile {
    /// Reads the operator's file (`--encryption-provider-config`).
    pub fn open(path: &Path) -> Result<Self, Error> {
        let text = files::read(path)?.ok_or_else(|| Error::Missing { path: path.to_owned() })?;
        let rules = parse(path, &text)?;
        Ok(Self {
            path: path.to_owned(),
            rules: Arc::new(ArcSwap::from_pointee(rules)),
            text: Mutex::new(text),
        })
    }

    /// The same, but a file that is missing is made: Secrets are encrypted with a key of their own, and what was
    /// stored before is still read.
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        if files::read(path)?.is_none() {
            let mut key = [0; KEY_BYTES];
            rand::fill(&mut key).map_err(|_| Error::Random { path: path.to_owned() })?;
            files::write(path, &first_configuration(&STANDARD.encode(key)))?;
        }
        Self::open(path)
    }

    /// The store as everything above must see it.
    pub fn encrypt(&self, inner: Arc<dyn Store>) -> Encrypted {
        Encrypted::new(inner, self.rules.clone())
    }

    /// Takes the file's present content; true when it was another. A file that cannot be used changes nothing.
    pub fn reload(&self) -> Result<bool, Error> {
        let text = files::read(&self.path)?.ok_or_else(|| Error::Missing { path: self.path.clone() })?;
        if *self.text.lock() == text {
            return Ok(false);
        }
        self.rules.store(Arc::new(parse(&self.path, &text)?));
        *self.text.lock() = text;
        Ok(true)
    }

    /// Follows the file until dropped.
    pub async fn follow(&self) {
        let mut changes = FileChanges::new(&self.path);
        loop {
            changes.next().await;
            match self.reload() {
                Ok(true) => {
                    tracing::info!(path = %self.path.display(), "encryption provider configuration reloaded")
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "the encryption provider configuration stays as it was")
                }
            }
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Rules, Error> {
    config::parse(text).map_err(|cause| Error::Config { path: path.to_owned(), cause })
}

fn first_configuration(key: &str) -> String {
    format!(
        "# How this cluster encrypts what it stores. Without the key in this file its Secrets cannot be read.\n\
         apiVersion: apiserver.config.k8s.io/v1\n\
         kind: EncryptionConfiguration\n\
         resources:\n\
         - resources: [secrets]\n  \
           providers:\n  \
           - secretbox:\n      \
               keys:\n      \
               - name: key1\n        \
                 secret: {key}\n  \
           - identity: {{}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use knarr_storage::{Durability, Error as StoreError, Expect, Memory, Range};
    use std::os::unix::fs::PermissionsExt;

    const KEY: &str = "/registry/secrets/default/a";
    const PLAIN: Bytes = Bytes::from_static(b"{\"data\":\"hunter2\"}");

    fn config(providers: &str) -> String {
        format!(
            "{{kind: EncryptionConfiguration, apiVersion: apiserver.config.k8s.io/v1, resources: [{{resources: \
             [secrets], providers: [{providers}]}}]}}"
        )
    }

    fn secretbox(name: &str, fill: u8) -> String {
        format!("{{secretbox: {{keys: [{{name: {name}, secret: {}}}]}}}}", STANDARD.encode([fill; 32]))
    }

    #[tokio::test]
    async fn a_first_start_makes_a_key_and_the_store_never_holds_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("encryption.yaml");
        let memory: Arc<dyn Store> = Arc::new(Memory::new());
        let plain = "/registry/secrets/default/plain";
        memory.put(plain, PLAIN, Expect::Absent, Durability::Durable).await.unwrap();

        let file = EncryptionFile::open_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let store = file.encrypt(memory.clone());
        store.put(KEY, PLAIN, Expect::Absent, Durability::Durable).await.unwrap();
        let raw = memory.get(KEY).await.unwrap().0.unwrap().value;
        assert!(raw.starts_with(b"k8s:enc:secretbox:v1:key1:") && !raw.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(store.get(KEY).await.unwrap().0.unwrap().value, PLAIN);
        assert!(store.is_current(KEY).await.unwrap());

        // What was there before can be read, and is known to need writing.
        assert_eq!(store.get(plain).await.unwrap().0.unwrap().value, PLAIN);
        assert!(!store.is_current(plain).await.unwrap());

        // The next start reads the same key.
        let again = EncryptionFile::open_or_create(&path).unwrap().encrypt(memory);
        assert_eq!(again.get(KEY).await.unwrap().0.unwrap().value, PLAIN);
    }

    #[tokio::test]
    async fn keys_rotate_while_the_store_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("encryption.yaml");
        std::fs::write(&path, config(&secretbox("a", 1))).unwrap();
        let file = EncryptionFile::open(&path).unwrap();
        let memory: Arc<dyn Store> = Arc::new(Memory::new());
        let store = file.encrypt(memory.clone());
        store.put(KEY, PLAIN, Expect::Absent, Durability::Durable).await.unwrap();
        assert!(!file.reload().unwrap());

        std::fs::write(&path, config(&format!("{}, {}", secretbox("b", 2), secretbox("a", 1)))).unwrap();
        assert!(file.reload().unwrap());
        let kv = store.get(KEY).await.unwrap().0.unwrap();
        assert_eq!((kv.value, store.is_current(KEY).await.unwrap()), (PLAIN, false));
        store.put(KEY, PLAIN, Expect::At(kv.mod_revision), Durability::Durable).await.unwrap();
        assert!(memory.get(KEY).await.unwrap().0.unwrap().value.starts_with(b"k8s:enc:secretbox:v1:b:"));

        // A broken file changes nothing.
        std::fs::write(&path, "kind: Nonsense").unwrap();
        assert!(file.reload().is_err());
        assert_eq!(store.get(KEY).await.unwrap().0.unwrap().value, PLAIN);
    }

    #[tokio::test]
    async fn a_lost_key_is_told_and_hides_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::write(&one, config(&secretbox("a", 1))).unwrap();
        std::fs::write(&other, config(&secretbox("b", 2))).unwrap();
        let memory: Arc<dyn Store> = Arc::new(Memory::new());
        let writer = EncryptionFile::open(&one).unwrap().encrypt(memory.clone());
        writer.put(KEY, PLAIN, Expect::Absent, Durability::Durable).await.unwrap();

        let reader = EncryptionFile::open(&other).unwrap().encrypt(memory);
        reader.put("/registry/secrets/default/b", PLAIN, Expect::Absent, Durability::Durable).await.unwrap();
        let Err(StoreError::Unreadable { key, cause }) = reader.get(KEY).await else { panic!("readable") };
        assert_eq!(key, KEY);
        assert_eq!(cause.to_string(), "no matching key was found for the provided Secretbox transformer");
        let all =
            reader.range(Range { prefix: "/registry/secrets/".into(), ..Range::default() }).await.unwrap();
        assert_eq!(all.items.len(), 2);
        assert_eq!(all.items[1].value, PLAIN);
    }
}
