//! What a plugin is: upstream's extension points, as far as plugins that come with it need them.
//!
//! ```text
//!  PreFilter ──► Filter, node by node ──► PreScore ──► Score, node by node ──► NormalizeScore ──► Reserve ──► PreBind
//!      └────────────┴──► nothing fits: PostFilter (preemption)
//! ```
//!
//! What upstream keeps in a CycleState under string keys is here the value that PreFilter and PreScore give back:
//! it lives as long as the decision about one pod.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::cluster::Cluster;
use crate::event::{Event, Kinds};
use crate::object::Pod;
use crate::state::NodeInfo;

/// The best score a plugin can give a node.
pub const MAX_NODE_SCORE: i64 = 100;

/// Why not, in upstream's words, which are counted over all nodes.
pub type Reason = Cow<'static, str>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// If other pods left, it could be a yes.
    Unschedulable,
    /// Removing pods would not help.
    Unresolvable,
}

/// A plugin's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub code: Code,
    pub reason: Reason,
    /// Further reasons; hardly ever any.
    pub also: Vec<Reason>,
}

impl Rejection {
    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self { code: Code::Unschedulable, reason: reason.into(), also: Vec::new() }
    }

    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self { code: Code::Unresolvable, reason: reason.into(), also: Vec::new() }
    }

    pub fn reasons(&self) -> impl Iterator<Item = &Reason> {
        std::iter::once(&self.reason).chain(&self.also)
    }
}

pub type Verdict = Result<(), Rejection>;

/// What a plugin knows of a pod before it looks at nodes.
pub enum PreFilter<'a> {
    /// It has nothing against any node.
    Skip,
    Filter(Box<dyn Filter + 'a>),
    /// Only nodes of these names can pass.
    Only(BTreeSet<Box<str>>, Box<dyn Filter + 'a>),
    /// No node can pass.
    Rejected(Rejection),
}

impl<'a> PreFilter<'a> {
    pub fn filter(filter: impl Filter + 'a) -> Self {
        Self::Filter(Box::new(filter))
    }
}

/// A plugin's judgement of nodes for one pod.
pub trait Filter {
    fn filter(&self, node: &NodeInfo) -> Verdict;

    /// As if `other` were on the node too.
    fn add_pod(&mut self, _other: &Pod, _node: &NodeInfo) {}

    /// As if `other` were not on the node.
    fn remove_pod(&mut self, _other: &Pod, _node: &NodeInfo) {}

    /// A copy for trying out what other pods there could be.
    fn fork(&self) -> Box<dyn Filter + '_>;
}

/// A plugin's preferences among nodes for one pod.
pub trait Score {
    /// Any scale, if `normalize` brings it to 0..=100 afterwards.
    fn score(&self, node: &NodeInfo) -> i64;

    /// Whether the score is of 0..=100 already and follows from the node's pods and nothing else, so that the
    /// scores of other nodes stay when a pod comes to one. All others must not change with pods that come, or the
    /// pod is evaluated anew each time.
    fn follows_load(&self) -> bool {
        false
    }

    /// Brings the scores of all nodes to 0..=100. `nodes` and `scores` go together.
    fn normalize(&self, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}
}

pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Why the pod must not even be tried.
    fn pre_enqueue(&self, _pod: &Pod) -> Verdict {
        Ok(())
    }

    /// What could turn this plugin's no into a yes.
    fn events(&self) -> Kinds {
        Kinds::default()
    }

    /// Whether an event of these kinds helps this very pod: upstream's queueing hint.
    fn helps(&self, _pod: &Pod, _event: &Event, _cluster: &Cluster) -> bool {
        true
    }

    fn pre_filter<'a>(&'a self, _pod: &'a Pod, _cluster: &'a Cluster) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// `None` when it has no preference for this pod.
    fn pre_score<'a>(
        &'a self,
        _pod: &'a Pod,
        _cluster: &'a Cluster,
        _feasible: &[&NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        None
    }
}

/// Scales scores so that the largest becomes 100; `reverse` turns "how bad" into "how good".
pub fn scale_to_largest(scores: &mut [i64], reverse: bool) {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if largest == 0 { 0 } else { MAX_NODE_SCORE * *score / largest };
        *score = if reverse { MAX_NODE_SCORE - scaled } else { scaled };
    }
}
