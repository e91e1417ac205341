//! `knarr image build`.

use std::collections::BTreeMap;

use anyhow::Context;
use knarr_runtime::build::{Network, Request};

use super::nodes;
use crate::cli;
use crate::cluster::Cluster;
use crate::control::{Client, ImportRequest, SaveRequest};

/// Builds on the first node, then brings the image to the others.
pub async fn run(wanted: cli::Build) -> anyhow::Result<()> {
    let cluster = Cluster::find(&wanted.named.name)?;
    let mut client = Client::connect(&cluster).await?;
    let request = request(wanted)?;
    let image = client.build(&request, |line| say!("{line}")).await?;
    say!("built {}", image.digest);
    let others = nodes::connect(&cluster).await?;
    if !others.is_empty() {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("image.tar");
        client.save(&SaveRequest { names: vec![image.digest], path: path.clone() }).await?;
        for (node, mut client) in others {
            let imported = client.import(&ImportRequest { path: path.clone() }).await;
            imported.with_context(|| format!("bringing the image to node {}", node.name))?;
        }
    }
    for name in &image.names {
        say!("named {name}");
    }
    Ok(())
}

fn request(wanted: cli::Build) -> anyhow::Result<Request> {
    let context = std::path::absolute(&wanted.context)
        .with_context(|| format!("build context {}", wanted.context.display()))?;
    let dockerfile = wanted.file.map(std::path::absolute).transpose().context("the Dockerfile")?;
    Ok(Request {
        context,
        dockerfile,
        tags: wanted.tags,
        arguments: arguments(&wanted.arguments, |name| std::env::var(name).ok()),
        labels: arguments(&wanted.labels, |_| Some(String::new())),
        target: wanted.target,
        no_cache: wanted.no_cache,
        pull: wanted.pull,
        network: if wanted.network == "none" { Network::None } else { Network::Host },
    })
}

/// `NAME=VALUE`, or a name whose value is found elsewhere.
fn arguments(given: &[String], value: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let pair = |argument: &String| match argument.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((argument.clone(), value(argument)?)),
    };
    given.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_without_a_value_takes_that_of_the_environment() {
        let given = ["A=1=2".to_owned(), "B".to_owned(), "C".to_owned()];
        let found = arguments(&given, |name| (name == "B").then(|| "two".to_owned()));
        assert_eq!(found, BTreeMap::from([("A".into(), "1=2".into()), ("B".into(), "two".into())]));
    }
}
