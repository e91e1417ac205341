//! `knarr delete`: stop the server and remove everything the cluster made.

use std::process::ExitCode;

use super::{nodes, process};
use crate::cli::Named;
use crate::cluster::{Lock, Registry};
use crate::{kubeconfig, server};

pub async fn run(named: Named) -> anyhow::Result<ExitCode> {
    let registry = Registry::open()?;
    let Some(cluster) = registry.find(&named.name).cloned() else {
        // Nothing was ever made: leave no empty registry behind either.
        registry.remove(&named.name)?;
        say!("there is no cluster {}", named.name);
        return Ok(ExitCode::SUCCESS);
    };
    nodes::stop(&cluster)?;
    if let Some(pid) = Lock::holder(&cluster.data_dir)? {
        process::end(pid)?;
    }
    server::destroy(&cluster).await?;
    if let Some(file) = kubeconfig::user_file() {
        kubeconfig::remove(&file, &cluster.context())?;
    }
    registry.remove(&cluster.name)?;
    say!("cluster {} is deleted", cluster.name);
    Ok(ExitCode::SUCCESS)
}
