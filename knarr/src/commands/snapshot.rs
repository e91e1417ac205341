//! `knarr snapshot`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use knarr_storage::{SnapshotInfo, inspect_snapshot, restore_snapshot};

use super::{as_root, on_one_thread};
use crate::cli::{Named, Snapshot, SnapshotCommand};
use crate::cluster::{Cluster, Lock};
use crate::control::{Client, SnapshotRequest};

pub fn run(snapshot: Snapshot) -> anyhow::Result<ExitCode> {
    match snapshot.command {
        SnapshotCommand::Save { file, named } => {
            as_root("snapshot save", || on_one_thread(save(&file, &named)))
        }
        SnapshotCommand::Restore { file, named } => as_root("snapshot restore", || restore(&file, &named)),
        SnapshotCommand::Info { file } => {
            show!("{}", shown(&file)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn save(file: &Path, named: &Named) -> anyhow::Result<ExitCode> {
    // The server's current directory is another.
    let path = std::path::absolute(file).with_context(|| file.display().to_string())?;
    let mut client = Client::connect(&Cluster::find(&named.name)?).await?;
    let saved = client.save_snapshot(&SnapshotRequest { path }).await?;
    say!("saved revision {} to {}", saved.revision, file.display());
    Ok(ExitCode::SUCCESS)
}

fn restore(file: &Path, named: &Named) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find(&named.name)?;
    if Lock::holder(&cluster.data_dir)?.is_some() {
        bail!("cluster {0} runs: stop it with `knarr down --name {0}`", cluster.name);
    }
    let lock = Lock::take(&cluster.data_dir)?;
    let restored = restore_snapshot(file, &cluster.data_dir.join("store"));
    let info = restored.with_context(|| format!("restoring {}", file.display()))?;
    drop(lock);
    say!(
        "cluster {0} is back at revision {1}: start it with `knarr up --name {0}`",
        cluster.name,
        info.revision
    );
    Ok(ExitCode::SUCCESS)
}

fn shown(file: &Path) -> anyhow::Result<String> {
    let read = inspect_snapshot(file).with_context(|| format!("reading {}", file.display()))?;
    let SnapshotInfo { revision, keys, bytes, hash } = read;
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("revision: {revision}\nkeys: {keys}\nbytes: {bytes}\nsha256: {hash}\n"))
}
