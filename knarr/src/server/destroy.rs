//! Removing what a cluster put into the kernel and on the disk.

use std::path::Path;

use anyhow::Context;

use super::node::open_runtime;
use super::settings::{POD_CIDRS, Settings};
use crate::cluster::Cluster;

/// What a server makes in its data directory. Anything else there is the user's and stays.
const OWN: [&str; 11] = [
    "store",
    "pki",
    "runtime",
    "network",
    "kubelet",
    "kubeconfig",
    "server.log",
    "server.lock",
    "control.sock",
    "hello.fingerprint",
    POD_CIDRS,
];

/// Ends every container and removes every process, mount, namespace, link, table, cgroup and file of a cluster
/// whose server does not run.
pub async fn destroy(cluster: &Cluster) -> anyhow::Result<()> {
    if !cluster.data_dir.exists() {
        return Ok(());
    }
    let settings = Settings::of(cluster.clone())?.node()?;
    if settings.dir("runtime").exists() {
        let runtime = open_runtime(&settings).await?;
        runtime.destroy().await.context("removing containers")?;
    }
    unmount_below(&settings.dir("kubelet"))?;
    let network = settings.network(&settings.remembered_pod_cidrs()?)?;
    knarr_network::destroy(&network).await.context("removing the network")?;
    for name in OWN {
        remove(&settings.dir(name))?;
    }
    match std::fs::remove_dir(&cluster.data_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
            Err(error).with_context(|| format!("removing {}", cluster.data_dir.display()))
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
