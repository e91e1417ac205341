//! What the binary costs, against the budgets of the design: start, idle, pod start, durable creates, reads, watches,
//! size, and what a large cluster does. It prints and asserts nothing; the figures belong to the machine they were taken on.

mod figures;
mod http2;
mod idle;
mod memory;
mod pods;
mod reads;
mod scale;
mod start;
mod watchers;
mod writes;

use anyhow::Context;
use http2::Endpoint;
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
    runtime.block_on(async {
        let client = connect(&cluster).await?;
        pods::measure(&client).await?;
        writes::measure(&client, &cluster.data_dir()).await?;
        let endpoint = Endpoint::new(&config(&cluster).await?)?;
        reads::measure(&endpoint, cluster.pid(), writes::FIRST).await?;
        watchers::measure(&client, &endpoint, cluster.pid()).await
    })?;
    drop(cluster);
    runtime.block_on(scale::measure())
}

/// A client of its own, with the administrator's certificate.
async fn connect(cluster: &Cluster) -> anyhow::Result<kube::Client> {
    Ok(kube::Client::try_from(config(cluster).await?)?)
}

async fn config(cluster: &Cluster) -> anyhow::Result<kube::Config> {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?)
}
