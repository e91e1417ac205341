//! `knarr up`: start a server in the background, then the further nodes, and wait until all are Ready.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};

use super::process::check_port_is_free;
use super::{background, nodes};
use crate::cli::{Extras, Up};
use crate::cluster::{Cluster, Lock, Registry};
use crate::kubeconfig;

pub async fn run(up: Up) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let cluster = {
        let mut registry = Registry::open()?;
        let mut cluster = Cluster::resolve(&mut registry, &up.place)?;
        grow(&mut cluster, up.nodes)?;
        registry.put(cluster.clone())?;
        cluster
    };
    nodes::prepare(&cluster).await?;
    let running = Lock::holder(&cluster.data_dir)?;
    if running.is_none() {
        start(&cluster, &up.extras)?;
    }
    nodes::start(&cluster).await?;
    match running {
        Some(pid) => say!("cluster {} runs already (pid {pid})", cluster.name),
        None => {
            say!("cluster {} is ready after {:.2} s", cluster.name, began.elapsed().as_secs_f64());
        }
    }
    warn_of_firewall(&cluster).await;
    let own = cluster.kubeconfig();
    say!("kubeconfig: {}", own.display());
    if !up.no_merge_kubeconfig
        && let Some(file) = kubeconfig::user_file()
    {
        let text = std::fs::read_to_string(&own).with_context(|| format!("reading {}", own.display()))?;
        kubeconfig::merge(&file, &text, &cluster.context())?;
        say!("context {} is the current one in {}", cluster.context(), file.display());
        say!("try: kubectl get nodes");
    } else {
        say!("try: kubectl --kubeconfig {} get nodes", own.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what to do where the machine's firewall swallows the packets of pods.
async fn warn_of_firewall(cluster: &Cluster) {
    // Without nftables the server would not have started; if it cannot be asked now there is nothing to warn of.
    let Ok(obstacles) = knarr_network::firewall::obstacles(None).await else { return };
    let pods = cluster.pod_cidr();
    for obstacle in obstacles {
        say!(
            "warning: this machine's firewall drops forwarded packets ({obstacle} has policy drop), so pods may not \
             reach other nodes or the world. To let them: iptables -I FORWARD -s {pods} -j ACCEPT; \
             iptables -I FORWARD -d {pods} -j ACCEPT"
        );
    }
}

/// A cluster keeps its nodes until it is deleted; more can be added at any time.
fn grow(cluster: &mut Cluster, wanted: Option<u8>) -> anyhow::Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    if wanted < cluster.nodes {
        bail!(
            "cluster {} has {} nodes already: a smaller one needs `knarr delete` first",
            cluster.name,
            cluster.nodes
        );
    }
    cluster.nodes = wanted;
    Ok(())
}

fn start(cluster: &Cluster, extras: &Extras) -> anyhow::Result<()> {
    check_port_is_free(cluster.api_port, "--api-port")?;
    // The server's current directory is another.
    let scheduler_config = extras.scheduler_config.as_deref().map(std::path::absolute).transpose()?;
    let api_server = extras.api_server.to_args()?;
    let process = background::start(&cluster.data_dir, &cluster.log_file(), |command| {
        command
            .args(["server", "--background", "--name", &cluster.name, "--data-dir"])
            .arg(&cluster.data_dir)
            .args(["--api-port", &cluster.api_port.to_string()])
            .args(["--sim-nodes", &extras.sim_nodes.to_string()])
            .args(api_server);
        if let Some(file) = scheduler_config {
            command.arg("--scheduler-config").arg(file);
        }
    })?;
    process.wait().context("starting the server")
}
