//! The further nodes of a cluster on this machine.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{background, process};
use crate::cluster::{Cluster, LocalNode, Lock};
use crate::control::{Client, TokenRequest};
use crate::server::{TOKEN_VARIABLE, machine};

/// The tokens that `knarr up` makes are used at once.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// Makes the link that the nodes share; before the server starts, because its address may be the only one that the
/// machine has.
pub async fn prepare(cluster: &Cluster) -> anyhow::Result<()> {
    if cluster.nodes > 1 {
        cluster.lan()?.ensure().await?;
    }
    Ok(())
}

/// Starts the nodes that do not run and waits until they are Ready.
pub async fn start(cluster: &Cluster) -> anyhow::Result<()> {
    let mut idle = Vec::new();
    for node in cluster.further_nodes()? {
        if Lock::holder(&node.data_dir)?.is_none() {
            idle.push(node);
        }
    }
    if idle.is_empty() {
        return Ok(());
    }
    let request = TokenRequest { ttl_seconds: TOKEN_TTL.as_secs() };
    let join = Client::connect(cluster).await?.create_token(&request).await?;
    let lan = cluster.lan()?;
    let server: http::Uri = join.server.parse().context("the API server's address")?;
    let advertised: IpAddr = server.host().unwrap_or_default().parse().context("the API server's address")?;
    if advertised.is_loopback() {
        bail!(
            "cluster {0} was started on a machine without an address, so nodes cannot reach it: \
             run `knarr down --name {0}` first",
            cluster.name
        );
    }
    let neighbours = [machine::addresses()?, vec![advertised]].concat();
    let mut starting = Vec::new();
    for node in idle {
        lan.attach(&node.member, &neighbours).await?;
        let process = background::start(&node.data_dir, &node.log_file(), |command| {
            command
                .args(["agent", "--background", "--name", &node.instance, "--server", &join.server])
                .args(["--hostname-override", &node.name])
                .args(["--node-ip", &node.member.address.to_string()])
                .arg("--data-dir")
                .arg(&node.data_dir)
                .arg("--netns")
                .arg(&node.member.netns)
                .env(TOKEN_VARIABLE, &join.token);
        })?;
        starting.push((node, process));
    }
    for (node, process) in starting {
        process.wait().with_context(|| format!("starting node {}", node.name))?;
    }
    Ok(())
}

/// Ends the agents that run. Their containers go on.
pub fn stop(cluster: &Cluster) -> anyhow::Result<()> {
    for node in cluster.further_nodes()? {
        if let Some(pid) = Lock::holder(&node.data_dir)? {
            process::end(pid).with_context(|| format!("stopping node {}", node.name))?;
        }
    }
    Ok(())
}

/// The control sockets of the nodes that run.
pub async fn connect(cluster: &Cluster) -> anyhow::Result<Vec<(LocalNode, Client)>> {
    let mut clients = Vec::new();
    for node in cluster.further_nodes()? {
        if let Some(client) = Client::connect_node(&node).await? {
            clients.push((node, client));
        }
    }
    Ok(clients)
}
