//! Where the cluster keeps its objects: in a file of its own, or in etcd.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::ValueEnum;
use knarr_storage::{Embedded, Etcd, EtcdOptions, Options, Store};

use crate::cli::{EtcdFlags, StoreFlags, StoreKind};

/// The directory of the embedded store.
pub const DIRECTORY: &str = "store";
/// The file that says which kind of store holds the cluster's objects: whoever starts it with another one would see an
/// empty cluster.
pub const STORE_KIND: &str = "store-kind";
/// Upstream's `--etcd-prefix`.
const PREFIX: &str = "/registry";

/// A store that was opened.
pub struct Opened {
    pub store: Arc<dyn Store>,
    /// The same, where it is the embedded one.
    pub embedded: Option<Arc<Embedded>>,
}

/// Opens the store that the flags name, or the one that is in use.
pub async fn open(data_dir: &Path, flags: &StoreFlags) -> anyhow::Result<Opened> {
    let known = kind(data_dir)?;
    let wanted = flags.store.or(known).unwrap_or_default();
    if let Some(known) = known.filter(|known| *known != wanted) {
        bail!(
            "the cluster keeps its objects in the store {0}: start it with --store {0}, or move them with `knarr store migrate`",
            name(known)
        );
    }
    let opened = match wanted {
        StoreKind::Embedded => {
            let embedded = Arc::new(embedded(data_dir)?);
            Opened { store: embedded.clone(), embedded: Some(embedded) }
        }
        StoreKind::Etcd => Opened { store: Arc::new(etcd(&flags.etcd).await?), embedded: None },
    };
    set_kind(data_dir, wanted)?;
    Ok(opened)
}

pub fn embedded(data_dir: &Path) -> anyhow::Result<Embedded> {
    let directory = data_dir.join(DIRECTORY);
    Embedded::open(&directory, &Options::default())
        .with_context(|| format!("opening the store in {}", directory.display()))
}

pub async fn etcd(flags: &EtcdFlags) -> anyhow::Result<Etcd> {
    let EtcdFlags { etcd_servers, etcd_cafile, etcd_certfile, etcd_keyfile, etcd_prefix } = flags.clone();
    if etcd_servers.is_empty() {
        bail!("the store is in etcd: pass --etcd-servers");
    }
    let servers = etcd_servers.join(",");
    let options = EtcdOptions {
        servers: etcd_servers,
        ca_file: etcd_cafile,
        cert_file: etcd_certfile,
        key_file: etcd_keyfile,
        prefix: etcd_prefix.unwrap_or_else(|| PREFIX.to_owned()),
    };
    Etcd::open(&options).await.with_context(|| format!("opening the store in etcd at {servers}"))
}

/// Which store holds the cluster's objects; `None` before the first start.
pub fn kind(data_dir: &Path) -> anyhow::Result<Option<StoreKind>> {
    let file = data_dir.join(STORE_KIND);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let kind = StoreKind::from_str(text.trim(), false);
            let kind = kind.map_err(|_| anyhow::anyhow!("{} names no kind of store", file.display()))?;
            Ok(Some(kind))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Clusters were embedded before there was a choice.
            Ok(data_dir.join(DIRECTORY).exists().then_some(StoreKind::Embedded))
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

pub fn set_kind(data_dir: &Path, kind: StoreKind) -> anyhow::Result<()> {
    let file = data_dir.join(STORE_KIND);
    std::fs::write(&file, name(kind)).with_context(|| format!("writing {}", file.display()))
}

pub fn name(kind: StoreKind) -> String {
    kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_is_never_started_on_another_store_than_it_has() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(kind(directory.path()).expect("reads"), None);
        let opened = open(directory.path(), &StoreFlags::default()).await.expect("opens");
        assert!(opened.embedded.is_some());
        assert_eq!(kind(directory.path()).expect("reads"), Some(StoreKind::Embedded));
        let flags = StoreFlags { store: Some(StoreKind::Etcd), ..StoreFlags::default() };
        let refused = open(directory.path(), &flags).await.err().expect("refused").to_string();
        assert!(refused.contains("knarr store migrate"), "{refused}");
        set_kind(directory.path(), StoreKind::Etcd).expect("writes");
        let unnamed =
            open(directory.path(), &StoreFlags::default()).await.err().expect("refused").to_string();
        assert!(unnamed.contains("--etcd-servers"), "{unnamed}");
    }
}
