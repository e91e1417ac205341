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
    println!("cluster:     {}", cluster.name);
    println!("data:        {}", cluster.data_dir.display());
    if Lock::holder(&cluster.data_dir)?.is_none() {
        println!("state:       stopped (start it with `knarr up --name {}`)", cluster.name);
        return Ok(ExitCode::from(NOT_READY));
    }
    let status = Client::connect(&cluster).await?.status().await?;
    let state = if status.ready { "ready".to_owned() } else { format!("not ready: {}", status.message) };
    println!("state:       {state}");
    println!("version:     {}", status.version);
    println!("api server:  {}", status.api_server);
    println!("node:        {}", status.node);
    for (node, mut client) in nodes::connect(&cluster).await? {
        let status = client.status().await?;
        let state = if status.ready { "ready".to_owned() } else { status.message };
        let memory = status.resident_bytes >> 20;
        println!(
            "             {} ({state}, {} pods, pid {}, {memory} MiB)",
            node.name, status.pods, status.pid
        );
    }
    println!("pods:        {}", status.pods);
    println!(
        "process:     pid {}, up {}, {} MiB",
        status.pid,
        age(status.uptime_seconds),
        status.resident_bytes >> 20
    );
    println!("kubeconfig:  {}", cluster.kubeconfig().display());
    println!("log:         {}", cluster.log_file().display());
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
