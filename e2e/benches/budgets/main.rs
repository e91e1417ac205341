//! What the binary costs, against the budgets of the design: start, idle, pod start, durable creates, size, and what
//! a large cluster does. It prints and asserts nothing; the figures belong to the machine they were taken on.

mod figures;
mod idle;
mod pods;
mod scale;
mod start;
mod writes;

use anyhow::Context;
use knarr_e2e::{Cluster, binary};

fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a second provider"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    figures::heading();
    let bytes = std::fs::metadata(binary()).context("the binary")?.len();
    figures::line("release binary", &format!("{:.1} MB", bytes as f64 / 1e6), "40 MB");
    start::measure()?;
    let cluster = Cluster::start("bench");
    idle::measure(cluster.pid())?;
    let client = runtime.block_on(connect(&cluster))?;
    runtime.block_on(pods::measure(&client))?;
    runtime.block_on(writes::measure(&client, &cluster.data_dir()))?;
    drop((client, cluster));
    runtime.block_on(scale::measure())
}

/// A client of its own, with the administrator's certificate.
async fn connect(cluster: &Cluster) -> anyhow::Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
