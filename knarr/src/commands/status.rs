//! `knarr status`.

use std::process::ExitCode;

use super::nodes;
use crate::cli::Named;
use crate::cluster::{Cluster, Lock};
use crate::control::Client;

/// Exit code of a cluster that does not run or is not ready, for scripts.
const NOT_READY: u8 = 3;

pub async fn run(named: Named) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find(&named.name)?;
    say!("cluster:     {}", cluster.name);
    say!("data:        {}", cluster.data_dir.display());
    if Lock::holder(&cluster.data_dir)?.is_none() {
        say!("state:       stopped (start it with `knarr up --name {}`)", cluster.name);
        return Ok(ExitCode::from(NOT_READY));
    }
    let status = Client::connect(&cluster).await?.status().await?;
    let state = if status.ready { "ready".to_owned() } else { format!("not ready: {}", status.message) };
    say!("state:       {state}");
    say!("version:     {}", status.version);
    say!("api server:  {}", status.api_server);
    say!("node:        {}", status.node);
    for (node, mut client) in nodes::connect(&cluster).await? {
        let status = client.status().await?;
        let state = if status.ready { "ready".to_owned() } else { status.message };
        let memory = status.resident_bytes >> 20;
        say!("             {} ({state}, {} pods, pid {}, {memory} MiB)", node.name, status.pods, status.pid);
    }
    say!("pods:        {}", status.pods);
    say!(
        "process:     pid {}, up {}, {} MiB",
        status.pid,
        age(status.uptime_seconds),
        status.resident_bytes >> 20
    );
    say!("kubeconfig:  {}", cluster.kubeconfig().display());
    say!("log:         {}", cluster.log_file().display());
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
