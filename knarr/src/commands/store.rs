//! `knarr store`.

use std::process::ExitCode;

use anyhow::{Context, bail};
use knarr_storage::{Store as _, copy, restore_snapshot, save};

use super::{as_root, on_one_thread};
use crate::cli::{EtcdFlags, Named, Store, StoreCommand, StoreKind};
use crate::cluster::{Cluster, Lock};
use crate::server::store;

pub fn run(args: Store) -> anyhow::Result<ExitCode> {
    let StoreCommand::Migrate { to, etcd, named } = args.command;
    as_root("store migrate", || on_one_thread(migrate(to, etcd, named)))
}

async fn migrate(to: StoreKind, etcd: EtcdFlags, named: Named) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find(&named.name)?;
    let directory = &cluster.data_dir;
    if Lock::holder(directory)?.is_some() {
        bail!("cluster {0} runs: stop it with `knarr down --name {0}`", cluster.name);
    }
    let lock = Lock::take(directory)?;
    if store::kind(directory)? == Some(to) {
        bail!("cluster {} keeps its objects in the store {} already", cluster.name, store::name(to));
    }
    let remote = store::etcd(&etcd).await?;
    let copied = match to {
        StoreKind::Etcd => {
            let embedded = store::embedded(directory)?;
            let copied = copy(&embedded, &remote).await.context("copying to etcd")?;
            embedded.close().await?;
            copied
        }
        StoreKind::Embedded => {
            let place = tempfile::tempdir_in(directory).context("a place for the copy")?;
            let file = place.path().join("snapshot");
            let copied = save(&remote, &file).await.context("copying from etcd")?;
            restore_snapshot(&file, &directory.join(store::DIRECTORY))
                .context("putting the copy in place")?;
            copied
        }
    };
    remote.close().await?;
    store::set_kind(directory, to)?;
    drop(lock);
    let hash: String = copied.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    say!("copied {} keys of revision {} with sha256 {hash}", copied.keys, copied.revision);
    say!("cluster {} keeps its objects in the store {} now", cluster.name, store::name(to));
    Ok(ExitCode::SUCCESS)
}
