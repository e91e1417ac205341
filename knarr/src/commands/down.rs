//! `knarr down`.

use std::process::ExitCode;

use super::{nodes, process};
use crate::cli::Down;
use crate::cluster::{Cluster, Lock};
use crate::control::Client;

pub async fn run(down: Down) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::find(&down.named.name)?;
    if down.pods {
        for (_, mut node) in nodes::connect(&cluster).await? {
            node.stop_pods().await?;
        }
    }
    nodes::stop(&cluster)?;
    let Some(pid) = Lock::holder(&cluster.data_dir)? else {
        say!("cluster {} does not run", cluster.name);
        return Ok(ExitCode::SUCCESS);
    };
    if down.pods {
        Client::connect(&cluster).await?.stop_pods().await?;
    }
    process::end(pid)?;
    let pods = if down.pods { "its containers too" } else { "its containers go on" };
    say!("cluster {} is stopped, {pods}", cluster.name);
    Ok(ExitCode::SUCCESS)
}
