//! Required affinity and anti-affinity, of the incoming pod and of those that are there.

use std::collections::BTreeMap;

use super::{group, question, said};
use crate::cluster::Cluster;
use crate::framework::{Filter, Rejection, Verdict};
use crate::object::{Pod, Term};
use crate::state::{Counts, Domains, NodeInfo, TermKind};

/// Pods counted by the domains of one topology key.
#[derive(Clone)]
struct Tally {
    domains: Domains,
    pods: Vec<i64>,
}

impl Tally {
    fn new(key: &str, cluster: &Cluster) -> Self {
        let domains = cluster.state.domains(key);
        Self { pods: vec![0; domains.count()], domains }
    }

    fn of(key: &str, counts: &Counts, cluster: &Cluster) -> Self {
        let mut tally = Self::new(key, cluster);
        for (slot, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            tally.add(slot, i64::from(*count));
        }
        tally
    }

    fn add(&mut self, slot: usize, by: i64) {
        if let Some(domain) = self.domains.of(slot) {
            self.pods[domain as usize] += by;
        }
    }

    /// `None` if the node is in no domain.
    fn near(&self, slot: usize) -> Option<i64> {
        self.domains.of(slot).map(|domain| self.pods[domain as usize])
    }

    fn is_empty(&self) -> bool {
        self.pods.iter().all(|pods| *pods == 0)
    }
}

pub(super) struct Neighbours<'a> {
    pod: &'a Pod,
    cluster: &'a Cluster,
    /// By term of required affinity: pods that all of these terms mean.
    wanted: Vec<Tally>,
    /// By term of required anti-affinity.
    unwanted: Vec<Tally>,
    /// By topology key: pods that do not want this one.
    unwelcoming: BTreeMap<Box<str>, Tally>,
}

fn means(term: &Term, other: &Pod, cluster: &Cluster) -> bool {
    let meta = &other.metadata;
    term.matches(&meta.namespace, &meta.labels, cluster.objects.namespace_labels(&meta.namespace))
}

impl<'a> Neighbours<'a> {
    /// `None` when no pod has anything to say.
    pub fn count(pod: &'a Pod, cluster: &'a Cluster) -> Option<Self> {
        let own = said(pod);
        let unwelcoming = unwelcoming(pod, cluster);
        if own.required.is_empty() && own.anti_required.is_empty() && unwelcoming.is_empty() {
            return None;
        }
        let mut wanted = Vec::new();
        if !own.required.is_empty() {
            let groups = own.required.iter().map(|term| group(term, cluster)).collect();
            let counts = cluster.state.count(&question(groups));
            let tallies = own.required.iter().map(|term| Tally::of(&term.topology_key, &counts, cluster));
            wanted.extend(tallies);
        }
        let unwanted = own.anti_required.iter().map(|term| {
            let counts = cluster.state.count(&question(vec![group(term, cluster)]));
            Tally::of(&term.topology_key, &counts, cluster)
        });
        Some(Self { pod, cluster, wanted, unwanted: unwanted.collect(), unwelcoming })
    }

    fn has_wanted(&self, node: &NodeInfo) -> bool {
        let mut all_there = true;
        for tally in &self.wanted {
            match tally.near(node.slot) {
                None => return false,
                Some(pods) => all_there &= pods > 0,
            }
        }
        // The first of a group that wants to be together has nobody to go to.
        all_there
            || (self.wanted.iter().all(Tally::is_empty)
                && said(self.pod).required.iter().all(|term| means(term, self.pod, self.cluster)))
    }

    fn change(&mut self, other: &Pod, slot: usize, by: i64) {
        let own = said(self.pod);
        if !own.required.is_empty() && own.required.iter().all(|term| means(term, other, self.cluster)) {
            self.wanted.iter_mut().for_each(|tally| tally.add(slot, by));
        }
        for (term, tally) in own.anti_required.iter().zip(&mut self.unwanted) {
            if means(term, other, self.cluster) {
                tally.add(slot, by);
            }
        }
        for term in said(other).anti_required.iter().filter(|term| means(term, self.pod, self.cluster)) {
            let tally = self.unwelcoming.entry(term.topology_key.clone());
            tally.or_insert_with(|| Tally::new(&term.topology_key, self.cluster)).add(slot, by);
        }
    }
}

fn unwelcoming(pod: &Pod, cluster: &Cluster) -> BTreeMap<Box<str>, Tally> {
    let mut tallies: BTreeMap<Box<str>, Tally> = BTreeMap::new();
    let anti = cluster.state.terms().entries().filter(|entry| entry.kind == TermKind::AntiRequired);
    for entry in anti.filter(|entry| means(&entry.term, pod, cluster)) {
        let key = &entry.term.topology_key;
        let tally = tallies.entry(key.clone()).or_insert_with(|| Tally::new(key, cluster));
        for (slot, pods) in &entry.nodes {
            tally.add(*slot, i64::from(*pods));
        }
    }
    tallies
}

impl Filter for Neighbours<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if !self.has_wanted(node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        let near = |tally: &Tally| tally.near(node.slot).is_some_and(|pods| pods > 0);
        if self.unwanted.iter().any(near) {
            return Err(Rejection::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        if self.unwelcoming.values().any(near) {
            return Err(Rejection::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn add_pod(&mut self, other: &Pod, node: &NodeInfo) {
        self.change(other, node.slot, 1);
    }

    fn remove_pod(&mut self, other: &Pod, node: &NodeInfo) {
        self.change(other, node.slot, -1);
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Neighbours {
            pod: self.pod,
            cluster: self.cluster,
            wanted: self.wanted.clone(),
            unwanted: self.unwanted.clone(),
            unwelcoming: self.unwelcoming.clone(),
        })
    }
}
