//! All filters of a profile, ready for one pod.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Diagnosis;
use crate::cluster::Cluster;
use crate::framework::{Filter, PreFilter, Rejection};
use crate::object::Pod;
use crate::profile::Profile;
use crate::state::NodeInfo;

type Named<'a> = (&'static str, Box<dyn Filter + 'a>);

pub struct Judge<'a> {
    pod: &'a Pod,
    cluster: &'a Cluster,
    filters: Vec<Named<'a>>,
    only: Option<(BTreeSet<Box<str>>, &'static str)>,
}

/// Which plugin said no, and why.
pub type No = (&'static str, Rejection);

impl<'a> Judge<'a> {
    /// Asks the plugins about the pod itself.
    pub fn new(pod: &'a Pod, profile: &'a Profile, cluster: &'a Cluster) -> Result<Self, Box<Diagnosis>> {
        let mut judge = Self { pod, cluster, filters: Vec::new(), only: None };
        for plugin in profile.filters() {
            let filter = match plugin.pre_filter(pod, cluster) {
                PreFilter::Skip => continue,
                PreFilter::Rejected(rejection) => {
                    return Err(Box::new(Diagnosis::before_all_nodes(plugin.name(), rejection)));
                }
                PreFilter::Only(names, filter) => {
                    judge.only = Some((names, plugin.name()));
                    filter
                }
                PreFilter::Filter(filter) => filter,
            };
            judge.filters.push((plugin.name(), filter));
        }
        Ok(judge)
    }

    /// The only nodes that can pass, and whose word that is.
    pub fn only(&self) -> Option<(&BTreeSet<Box<str>>, &'static str)> {
        self.only.as_ref().map(|(names, plugin)| (names, *plugin))
    }

    /// Whether the pod can go to a node, even if pods of at least its priority come that the node was promised to.
    pub fn allows(&self, node: &NodeInfo) -> Result<(), No> {
        let promised = self.promised(node);
        if !promised.is_empty() {
            let mut trial = Trial::new(self, node);
            promised.iter().for_each(|pod| trial.add(pod));
            trial.run()?;
        }
        run(&self.filters, node)
    }

    fn promised(&self, node: &NodeInfo) -> Vec<&'a Arc<Pod>> {
        if self.cluster.nominated.is_empty() {
            return Vec::new();
        }
        let (uid, priority) = (&self.pod.metadata.uid, self.pod.priority);
        let others = self.cluster.nominated.on(&node.name).iter();
        others.filter(|other| other.priority >= priority && other.metadata.uid != *uid).collect()
    }
}

fn run(filters: &[Named<'_>], node: &NodeInfo) -> Result<(), No> {
    filters.iter().try_for_each(|(name, filter)| filter.filter(node).map_err(|rejection| (*name, rejection)))
}

/// A node as it could be, with pods that are not there or without some that are.
pub struct Trial<'j> {
    judge: &'j Judge<'j>,
    filters: Vec<Named<'j>>,
    pub node: NodeInfo,
}

impl<'j> Trial<'j> {
    pub fn new(judge: &'j Judge<'_>, node: &NodeInfo) -> Self {
        let filters = judge.filters.iter().map(|(name, filter)| (*name, filter.fork())).collect();
        Self { judge, filters, node: node.clone() }
    }

    pub fn add(&mut self, pod: &Arc<Pod>) {
        self.node.add_pod(pod);
        self.filters.iter_mut().for_each(|(_, filter)| filter.add_pod(pod, &self.node));
    }

    pub fn remove(&mut self, pod: &Pod) {
        self.node.remove_pod(pod);
        self.filters.iter_mut().for_each(|(_, filter)| filter.remove_pod(pod, &self.node));
    }

    pub fn run(&self) -> Result<(), No> {
        run(&self.filters, &self.node)
    }

    /// With the pods that the node was promised to, and without.
    pub fn allows(&mut self) -> Result<(), No> {
        let promised = self.judge.promised(&self.node);
        if !promised.is_empty() {
            promised.iter().for_each(|pod| self.add(pod));
            let verdict = self.run();
            promised.iter().for_each(|pod| self.remove(pod));
            verdict?;
        }
        self.run()
    }
}
