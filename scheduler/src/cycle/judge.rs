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
    /// `spare` serves to try that out, node after node.
    pub fn allows<'j>(&'j self, node: &NodeInfo, spare: &mut Option<Trial<'j>>) -> Result<(), No> {
        if !self.cluster.nominated.on(&node.name).is_empty() {
            let trial = spare.get_or_insert_with(|| Trial::new(self));
            trial.move_to(node);
            return trial.allows();
        }
        run(&self.filters, node)
    }

    fn promised(&self, node: &NodeInfo) -> Vec<&'a Arc<Pod>> {
        let (uid, priority) = (&self.pod.metadata.uid, self.pod.priority);
        let others = self.cluster.nominated.on(&node.name).iter();
        others.filter(|other| other.priority >= priority && other.metadata.uid != *uid).collect()
    }
}

fn run(filters: &[Named<'_>], node: &NodeInfo) -> Result<(), No> {
    filters.iter().try_for_each(|(name, filter)| filter.filter(node).map_err(|rejection| (*name, rejection)))
}

/// A node as it could be, with pods that are not there or without some that are. One trial serves for one node
/// after the other: what the filters were told of the last one is taken back, and nothing is made anew.
pub struct Trial<'j> {
    judge: &'j Judge<'j>,
    filters: Vec<Named<'j>>,
    pub node: NodeInfo,
    /// Who was added (true) and removed, in this order.
    told: Vec<(bool, Arc<Pod>)>,
    promised: Vec<&'j Arc<Pod>>,
}

impl<'j> Trial<'j> {
    /// At no node yet.
    pub fn new(judge: &'j Judge<'_>) -> Self {
        let filters = judge.filters.iter().map(|(name, filter)| (*name, filter.fork())).collect();
        let node = NodeInfo::new("".into(), usize::MAX);
        Self { judge, filters, node, told: Vec::new(), promised: Vec::new() }
    }

    /// The node as it is.
    pub fn move_to(&mut self, node: &NodeInfo) {
        while let Some((added, pod)) = self.told.pop() {
            if added { self.take_off(&pod) } else { self.put_on(&pod) }
        }
        self.node.become_like(node);
        self.promised = self.judge.promised(node);
    }

    pub fn add(&mut self, pod: &Arc<Pod>) {
        self.told.push((true, pod.clone()));
        self.put_on(pod);
    }

    pub fn remove(&mut self, pod: &Arc<Pod>) {
        self.told.push((false, pod.clone()));
        self.take_off(pod);
    }

    fn put_on(&mut self, pod: &Arc<Pod>) {
        self.node.add_pod(pod);
        self.filters.iter_mut().for_each(|(_, filter)| filter.add_pod(pod, &self.node));
    }

    fn take_off(&mut self, pod: &Pod) {
        self.node.remove_pod(pod);
        self.filters.iter_mut().for_each(|(_, filter)| filter.remove_pod(pod, &self.node));
    }

    fn run(&self) -> Result<(), No> {
        run(&self.filters, &self.node)
    }

    /// With the pods that the node was promised to, and without.
    pub fn allows(&mut self) -> Result<(), No> {
        if !self.promised.is_empty() {
            let promised = std::mem::take(&mut self.promised);
            promised.iter().for_each(|pod| self.put_on(pod));
            let verdict = self.run();
            promised.iter().for_each(|pod| self.take_off(pod));
            self.promised = promised;
            verdict?;
        }
        self.run()
    }
}
