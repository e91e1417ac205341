//! One decision: which of the nodes that can run a pod suits it best.

mod batch;
mod diagnosis;
mod judge;
mod scoring;

use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceClaim;
use knarr_api::time::SharedRandom;
use tokio::time::Instant;

use batch::Batch;
pub use diagnosis::Diagnosis;
pub use judge::{Judge, Trial};
use scoring::Scoring;

use crate::cluster::Cluster;
use crate::metrics::{self, Status};
use crate::object::Pod;
use crate::plugins;
use crate::preemption::{self, Preemption};
use crate::profile::Profile;
use crate::state::NodeInfo;

/// With fewer nodes than this all are looked at, and of more at least this many.
const MIN_FEASIBLE_NODES: usize = 100;
/// The part of a very large cluster that is looked at even then, in percent.
const MIN_PERCENTAGE: usize = 5;

/// Why no node fits, as `kubectl describe` shows it, and what is done about it.
#[derive(Debug)]
pub struct Unschedulable {
    pub message: String,
    /// The plugins that said no; none if it was not for a plugin.
    pub rejectors: Vec<&'static str>,
    pub preemption: Preemption,
    /// A claim that is to give up its devices, as they are where the pod cannot go.
    pub deallocate: Option<Arc<ResourceClaim>>,
}

pub struct Cycle {
    random: SharedRandom,
    /// Where the next search begins, so that all nodes get their turn.
    next_start: usize,
    /// What the last evaluation found, for pods equal to the one it was about.
    batch: Option<Batch>,
}

impl Cycle {
    pub fn new(random: SharedRandom) -> Self {
        Self { random, next_start: 0, batch: None }
    }

    /// The best node's name.
    pub fn decide(
        &mut self,
        pod: &Arc<Pod>,
        profile: &Profile,
        cluster: &mut Cluster,
    ) -> Result<Arc<str>, Unschedulable> {
        cluster.state.refresh_order();
        let cluster = &*cluster;
        if cluster.state.order().is_empty() {
            return Err(Unschedulable {
                message: "no nodes available to schedule pods".to_owned(),
                rejectors: Vec::new(),
                preemption: Preemption::ClearNomination,
                deallocate: None,
            });
        }
        let judge = match measured("PreFilter", pod, || Judge::new(pod, profile, cluster)) {
            Ok(judge) => judge,
            Err(diagnosis) => return Err(self.give_up(pod, profile, cluster, None, *diagnosis)),
        };
        if let Some(batch) = self.batch.take_if(|batch| !batch.serves(pod, cluster)) {
            drop(batch);
        }
        let next = self.batch.as_mut().and_then(|batch| batch.next(pod, &judge, profile, cluster));
        if let Some(node) = next {
            return Ok(node);
        }
        self.batch = None;
        let found = measured("Filter", pod, || self.find_feasible(pod, profile, &judge, cluster));
        let feasible = match found {
            Ok(feasible) => feasible,
            Err(diagnosis) => return Err(self.give_up(pod, profile, cluster, Some(&judge), *diagnosis)),
        };
        Ok(self.pick_best(pod, profile, cluster, &feasible))
    }

    fn find_feasible<'c>(
        &mut self,
        pod: &Pod,
        profile: &Profile,
        judge: &Judge<'_>,
        cluster: &'c Cluster,
    ) -> Result<Vec<&'c NodeInfo>, Box<Diagnosis>> {
        let (mut diagnosis, mut spare) = (Box::<Diagnosis>::default(), None);
        if let Some(node) = nominated(pod, cluster).and_then(|node| cluster.state.node(node))
            && judge.allows(node, &mut spare).is_ok()
        {
            return Ok(vec![node]);
        }
        let mut slots = std::borrow::Cow::Borrowed(cluster.state.order());
        if let Some((names, plugin)) = judge.only() {
            let named = names.iter().filter_map(|name| cluster.state.node(name));
            slots = named.map(|node| node.slot).collect::<Vec<_>>().into();
            diagnosis.others_are_left_out_by(plugin);
        }
        if slots.is_empty() {
            return Err(diagnosis);
        }
        let enough = if profile.has_scores() { enough(profile.percentage(), slots.len()) } else { 1 };
        let start = self.next_start % slots.len();
        let mut feasible = Vec::with_capacity(enough);
        let mut looked_at = 0;
        for &slot in slots[start..].iter().chain(&slots[..start]) {
            if feasible.len() == enough {
                break;
            }
            looked_at += 1;
            let node = &cluster.state.nodes()[slot];
            match judge.allows(node, &mut spare) {
                Ok(()) => feasible.push(node),
                Err((plugin, rejection)) => diagnosis.add(slot, plugin, rejection),
            }
        }
        self.next_start = (start + looked_at) % slots.len();
        if feasible.is_empty() { Err(diagnosis) } else { Ok(feasible) }
    }

    /// The node with the highest sum; among equals, chance decides.
    fn pick_best(
        &mut self,
        pod: &Arc<Pod>,
        profile: &Profile,
        cluster: &Cluster,
        feasible: &[&NodeInfo],
    ) -> Arc<str> {
        if let [only] = feasible {
            return only.name.clone();
        }
        let began = Instant::now();
        let scoring = Scoring::new(pod, profile, cluster, feasible);
        let prepared = Instant::now();
        metrics::ran("PreScore", Status::Success, &pod.scheduler_name, prepared - began);
        let totals = scoring.of_all(feasible);
        metrics::ran("Score", Status::Success, &pod.scheduler_name, prepared.elapsed());
        let best = totals.iter().map(|total| total.sum()).max().unwrap_or(0);
        let equals: Vec<usize> = (0..totals.len()).filter(|at| totals[*at].sum() == best).collect();
        let at = equals[self.random.below(equals.len() as u64) as usize];
        if batch::can_begin_with(pod, cluster) {
            self.batch = Some(Batch::new(pod.clone(), cluster, feasible, &totals, at, &self.random));
        }
        feasible[at].name.clone()
    }

    fn give_up(
        &mut self,
        pod: &Arc<Pod>,
        profile: &Profile,
        cluster: &Cluster,
        judge: Option<&Judge<'_>>,
        diagnosis: Diagnosis,
    ) -> Unschedulable {
        let mut message = diagnosis.message(cluster.state.order().len());
        let rejectors = diagnosis.rejectors();
        let deallocate = (profile.deallocates_claims() && rejectors.contains(&plugins::DYNAMIC_RESOURCES))
            .then(|| plugins::deallocatable_claim(pod, cluster))
            .flatten();
        let preemption = match profile.preemption() {
            None => Preemption::ClearNomination,
            Some(args) => {
                let began = Instant::now();
                let random = &*self.random;
                let preemption = preemption::attempt(pod, profile, cluster, judge, &diagnosis, args, random);
                let makes_room = matches!(preemption, Preemption::MakeRoom { .. });
                let status = if makes_room { Status::Success } else { Status::Unschedulable };
                metrics::ran("PostFilter", status, &pod.scheduler_name, began.elapsed());
                metrics::preemption_tried();
                preemption
            }
        };
        if !matches!(preemption, Preemption::MakeRoom { .. }) {
            let said = match &deallocate {
                Some(_) => "deallocation of ResourceClaim completed",
                None if pod.resource_claims.is_empty() => "no new claims to deallocate",
                None => "still not schedulable",
            };
            let claims = profile.deallocates_claims().then(|| said.to_owned());
            let preempting = preemption.message().map(|why_not| format!("preemption: {why_not}"));
            let reasons: Vec<String> = claims.into_iter().chain(preempting).collect();
            if !reasons.is_empty() {
                message.push(' ');
                message.push_str(&reasons.join(", "));
            }
        }
        Unschedulable { message, rejectors, preemption, deallocate }
    }
}

/// Does the work of an extension point, and notes how long it took.
fn measured<T, E>(extension_point: &str, pod: &Pod, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let began = Instant::now();
    let done = work();
    let status = if done.is_ok() { Status::Success } else { Status::Unschedulable };
    metrics::ran(extension_point, status, &pod.scheduler_name, began.elapsed());
    done
}

/// The node that room was made on for this pod.
fn nominated<'c>(pod: &'c Pod, cluster: &'c Cluster) -> Option<&'c str> {
    let known = cluster.nominated.node_of(&pod.metadata.uid);
    known.or_else(|| (!pod.nominated_node.is_empty()).then_some(&*pod.nominated_node))
}

/// How many feasible nodes are enough to choose from; a percentage of 0 adapts to the cluster's size.
fn enough(percentage: u32, nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE_NODES {
        return nodes;
    }
    let percentage = match percentage as usize {
        0 => 50usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE),
        given => given.min(100),
    };
    (nodes * percentage / 100).max(MIN_FEASIBLE_NODES)
}

#[cfg(test)]
mod tests;
