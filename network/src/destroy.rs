//! The end of a cluster on a node.

use crate::config::Config;
use crate::dns::{self, Dns};
use crate::kernel::{Namespace, source};
use crate::node::{self, Routes};
use crate::pod::{self, RoutedNetwork};
use crate::policy::{self, Policies};
use crate::proxy::{Dataplane, NftDataplane, dataplane};

/// What could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Proxy(#[from] dataplane::Error),
    #[error(transparent)]
    Policy(#[from] policy::Error),
    #[error(transparent)]
    Routes(#[from] node::Error),
    #[error(transparent)]
    Dns(#[from] dns::Error),
    #[error(transparent)]
    Pods(#[from] pod::Error),
    #[error("take the pod range's address from the node: {0}")]
    Address(#[source] nlink::Error),
}

/// Removes everything that a cluster's network put into the kernel and the state
/// directory of this node: rules, routes, links, addresses, files. Nothing else
/// may use the configuration any more. What is gone already is no error, so it
/// can be repeated.
///
/// Forwarding stays enabled: others may have come to rely on it.
pub async fn destroy(config: &Config) -> Result<(), Error> {
    NftDataplane::open(config)?.destroy().await?;
    Policies::destroy(config).await?;
    Routes::destroy(config).await?;
    Dns::destroy(config).await?;
    RoutedNetwork::open(config).await?.destroy().await?;
    let namespace = Namespace::open(config.netns.as_deref()).map_err(Error::Address)?;
    let route = namespace.route().map_err(Error::Address)?;
    source::release(&route, config).await.map_err(Error::Address)
}
