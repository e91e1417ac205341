//! Removing what a cluster put into the kernel and on the disk.

use std::path::Path;

use anyhow::Context;

use super::node::open_runtime;
use super::settings::{ENCRYPTION, NodeSettings, POD_CIDRS, Settings};
use super::store::STORE_KIND;
use crate::cli::ApiServer;
use crate::cluster::{Cluster, LocalNode};

/// What a server or an agent makes in its data directory. Anything else there is the user's and stays.
const OWN: [&str; 15] = [
    "store",
    STORE_KIND,
    "pki",
    "runtime",
    "network",
    "kubelet",
    "storage",
    "kubeconfig",
    "server.log",
    "agent.log",
    "server.lock",
    "control.sock",
    "hello.fingerprint",
    ENCRYPTION,
    POD_CIDRS,
];

/// Ends every container and removes every process, mount, namespace, link, table, cgroup and file of a cluster
/// whose server and nodes do not run.
pub async fn destroy(cluster: &Cluster) -> anyhow::Result<()> {
    let own = Settings::of(cluster.clone(), ApiServer::default())?.node()?;
    for node in cluster.further_nodes()? {
        let settings = NodeSettings {
            cluster: node.instance.clone(),
            node_name: node.name.clone(),
            data_dir: node.data_dir.clone(),
            ..own.clone()
        };
        destroy_node(cluster, &node, &settings)
            .await
            .with_context(|| format!("removing node {}", node.name))?;
    }
    remove_if_empty(&cluster.nodes_dir())?;
    cluster.lan()?.destroy().await?;
    if !cluster.data_dir.exists() {
        return destroy_without_files(own).await;
    }
    destroy_containers(&own).await?;
    destroy_network(&own).await?;
    remove_files(&cluster.data_dir)
}

/// Somebody removed the directory before, or it was never made: what is in the kernel is found by the cluster's name.
async fn destroy_without_files(own: NodeSettings) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("making a temporary directory")?;
    let own = NodeSettings { data_dir: scratch.path().to_owned(), ..own };
    destroy_runtime(&own).await?;
    destroy_network(&own).await
}

async fn destroy_runtime(settings: &NodeSettings) -> anyhow::Result<()> {
    open_runtime(settings).await?.destroy().await.context("removing containers")
}

async fn destroy_network(own: &NodeSettings) -> anyhow::Result<()> {
    let network = own.network(&own.remembered_pod_cidrs()?)?;
    knarr_network::destroy(&network).await.context("removing the network")
}

/// The network of such a node goes with its namespace.
async fn destroy_node(cluster: &Cluster, node: &LocalNode, settings: &NodeSettings) -> anyhow::Result<()> {
    destroy_containers(settings).await?;
    cluster.lan()?.detach(&node.member).await?;
    remove_files(&node.data_dir)
}

async fn destroy_containers(settings: &NodeSettings) -> anyhow::Result<()> {
    if settings.dir("runtime").exists() {
        destroy_runtime(settings).await?;
    }
    unmount_below(&settings.dir("kubelet"))
}

fn remove_files(data_dir: &Path) -> anyhow::Result<()> {
    for name in OWN {
        remove(&data_dir.join(name))?;
    }
    remove_if_empty(data_dir)
}

fn remove_if_empty(directory: &Path) -> anyhow::Result<()> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match std::fs::remove_dir(directory) {
        Err(error) if !matches!(error.kind(), DirectoryNotEmpty | NotFound) => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    removed.with_context(|| format!("removing {}", path.display()))
}

/// Unmounts volumes, the innermost first.
fn unmount_below(directory: &Path) -> anyhow::Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut mounted: Vec<String> =
        points.map(unescape).filter(|point| Path::new(point).starts_with(directory)).collect();
    mounted.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in mounted {
        nix::mount::umount2(point.as_str(), nix::mount::MntFlags::MNT_DETACH)
            .with_context(|| format!("unmounting {point}"))?;
    }
    Ok(())
}

/// The kernel writes blanks and backslashes in octal.
fn unescape(point: &str) -> String {
    point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
