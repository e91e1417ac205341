//! `knarr kubeconfig`.

use std::process::ExitCode;

use anyhow::Context;

use crate::cli::Named;
use crate::cluster::Cluster;

pub fn run(named: &Named) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find(&named.name)?;
    let path = cluster.kubeconfig();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    show!("{text}");
    Ok(ExitCode::SUCCESS)
}
