//! The further nodes of a cluster on this machine: each in a network namespace, with an agent process of its own.

use std::path::PathBuf;

use anyhow::Context;
use ipnet::Ipv4Net;
use knarr_network::lan::{Lan, Member};

use super::Cluster;
use crate::server::machine;

/// More do not fit into the range of the shared link.
pub const MAX_NODES: u8 = 200;

/// A node of this machine that is not the machine itself.
#[derive(Debug, Clone)]
pub struct LocalNode {
    /// The Node object's name.
    pub name: String,
    /// Part of every name that the node puts into the kernel. Cluster names have no dot, so none is in the way.
    pub instance: String,
    pub data_dir: PathBuf,
    pub member: Member,
}

impl LocalNode {
    pub fn log_file(&self) -> PathBuf {
        self.data_dir.join("agent.log")
    }
}

impl Cluster {
    /// The link that the nodes of this machine share.
    pub fn lan(&self) -> anyhow::Result<Lan> {
        let range: Ipv4Net = format!("10.{}.0.0/24", 232 + u16::from(self.index)).parse()?;
        Ok(Lan::new(&self.name, range, vec![self.pod_cidr().parse().context("pod range")?]))
    }

    /// All nodes of this machine but the first, which is in the server's process.
    pub fn further_nodes(&self) -> anyhow::Result<Vec<LocalNode>> {
        let (host, lan) = (machine::node_name()?, self.lan()?);
        let node = |number: u8| {
            let instance = format!("{}.{number}", self.name);
            let data_dir = self.nodes_dir().join(number.to_string());
            // Not in /run/netns: the first `ip netns add` of a machine binds that directory over itself, and what was
            // mounted in it before cannot be unmounted any more.
            let member = Member { netns: data_dir.join("netns"), address: lan.address(number) };
            LocalNode { name: format!("{host}-{number}"), data_dir, member, instance }
        };
        Ok((2..=self.nodes).map(node).collect())
    }

    /// Below it each further node has its data directory.
    pub fn nodes_dir(&self) -> PathBuf {
        self.data_dir.join("nodes")
    }
}
