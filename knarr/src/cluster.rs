//! A named cluster: where it lives, and which addresses and ports are its own.

mod ending;
mod lock;
mod nodes;
mod registry;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub use lock::Lock;
pub use nodes::{LocalNode, MAX_NODES};
pub use registry::Registry;

use crate::cli::Place;

/// Upstream's default port of the API server.
const FIRST_API_PORT: u16 = 6443;

/// Clusters on one machine that can have ranges of their own (10.244.0.0/16 to 10.255.0.0/16).
const MAX_CLUSTERS: u8 = 12;

/// What a cluster was made with. Written once, read at every start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cluster {
    pub name: String,
    pub data_dir: PathBuf,
    pub api_port: u16,
    /// Which of the machine's ranges are this cluster's.
    pub index: u8,
    /// How many nodes it has on this machine.
    #[serde(default = "one")]
    pub nodes: u8,
}

fn one() -> u8 {
    1
}

impl Cluster {
    /// The cluster that the flags mean: a known one, or a new one with ranges that no other has.
    pub fn resolve(registry: &mut Registry, place: &Place) -> anyhow::Result<Self> {
        let name = &place.named.name;
        check_name(name)?;
        if let Some(mut known) = registry.find(name).cloned() {
            if let Some(dir) = &place.data_dir
                && std::path::absolute(dir)? != known.data_dir
            {
                let there = known.data_dir.display();
                bail!("cluster {name} already lives in {there}: delete it first, or pass another --name");
            }
            known.api_port = place.api_port.unwrap_or(known.api_port);
            registry.put(known.clone())?;
            return Ok(known);
        }
        let Some(index) = (0..MAX_CLUSTERS).find(|index| registry.all().all(|c| c.index != *index)) else {
            bail!(
                "there are {MAX_CLUSTERS} clusters on this machine already: delete one with `knarr delete --name NAME`"
            )
        };
        let data_dir = match &place.data_dir {
            Some(dir) => {
                std::path::absolute(dir).with_context(|| format!("data directory {}", dir.display()))?
            }
            None => Path::new(registry::ROOT).join(name),
        };
        if let Some(other) = registry.all().find(|other| other.data_dir == data_dir) {
            bail!("{} belongs to cluster {}: pass another --data-dir", data_dir.display(), other.name);
        }
        let api_port = place.api_port.unwrap_or(FIRST_API_PORT + u16::from(index));
        let cluster = Self { name: name.clone(), data_dir, api_port, index, nodes: 1 };
        registry.put(cluster.clone())?;
        Ok(cluster)
    }

    /// A cluster that was made before.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        match Registry::open()?.find(name) {
            Some(cluster) => Ok(cluster.clone()),
            None => bail!("there is no cluster {name}: start it with `knarr up --name {name}`"),
        }
    }

    pub fn pod_cidr(&self) -> String {
        format!("10.{}.0.0/16", 244 + u16::from(self.index))
    }

    pub fn service_cidr(&self) -> String {
        format!("10.{}.0.0/16", 96 + u16::from(self.index))
    }

    /// Where Services of type LoadBalancer get their addresses; every node of the cluster answers them.
    pub fn load_balancer_cidr(&self) -> String {
        format!("10.{}.0.0/24", 208 + u16::from(self.index))
    }

    /// The address of cluster DNS: the tenth of the service range, as everywhere.
    pub fn dns_address(&self) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(10, 96 + self.index, 0, 10)
    }

    /// Node ports, inclusive. The first cluster has upstream's; each further one the 2,000 below the one before.
    pub fn node_ports(&self) -> std::ops::RangeInclusive<u16> {
        match self.index {
            0 => 30_000..=32_767,
            n => (30_000 - 2_000 * u16::from(n))..=(31_999 - 2_000 * u16::from(n)),
        }
    }

    pub fn kubelet_port(&self) -> u16 {
        // Steps of ten keep clear of what stands next to 10250 upstream (10248, 10249, 10256 to 10259).
        10_250 + 10 * u16::from(self.index)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("kubeconfig")
    }

    pub fn log_file(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    /// The context, cluster and user in the user's kubeconfig.
    pub fn context(&self) -> String {
        format!("knarr-{}", self.name)
    }
}

/// Names become parts of paths, links and tables.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = (1..=30).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !fits {
        bail!("cluster name {name:?} must be at most 30 lower-case letters, digits and inner dashes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Named;

    fn place(name: &str, dir: Option<&str>) -> Place {
        Place { named: Named { name: name.into() }, data_dir: dir.map(Into::into), api_port: None }
    }

    #[test]
    fn clusters_on_one_machine_share_no_range() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut registry = Registry::open_at(directory.path()).expect("opens");
        let a = Cluster::resolve(&mut registry, &place("a", None)).expect("resolves");
        let b = Cluster::resolve(&mut registry, &place("b", None)).expect("resolves");
        assert_eq!((a.api_port, b.api_port), (6443, 6444));
        assert_eq!((a.pod_cidr().as_str(), b.pod_cidr().as_str()), ("10.244.0.0/16", "10.245.0.0/16"));
        assert!(b.node_ports().end() < a.node_ports().start());
        assert_eq!(Cluster::resolve(&mut registry, &place("a", None)).expect("resolves"), a);
    }

    #[test]
    fn further_nodes_have_directories_namespaces_and_addresses_of_their_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut registry = Registry::open_at(directory.path()).expect("opens");
        let mut cluster = Cluster::resolve(&mut registry, &place("a", Some("/data"))).expect("resolves");
        assert!(cluster.further_nodes().expect("nodes").is_empty());
        cluster.nodes = 3;
        let nodes = cluster.further_nodes().expect("nodes");
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].data_dir, Path::new("/data/nodes/3"));
        assert_eq!(nodes[1].member.netns, Path::new("/data/nodes/3/netns"));
        assert_eq!(nodes[1].member.address.to_string(), "10.232.0.3");
        assert!(nodes[0].name.ends_with("-2") && nodes[0].name != nodes[1].name);
    }

    #[test]
    fn names_that_would_escape_are_refused() {
        for name in ["", "..", "a/b", "A", "-a", "a-", &"x".repeat(31)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("test-1").is_ok());
    }

    #[test]
    fn a_data_directory_has_one_cluster() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut registry = Registry::open_at(directory.path()).expect("opens");
        Cluster::resolve(&mut registry, &place("a", Some("/data"))).expect("resolves");
        let error = Cluster::resolve(&mut registry, &place("b", Some("/data"))).expect_err("taken");
        assert_eq!(error.to_string(), "/data belongs to cluster a: pass another --data-dir");
        let error = Cluster::resolve(&mut registry, &place("a", Some("/other"))).expect_err("moved");
        assert!(error.to_string().contains("already lives in /data"));
    }
}
