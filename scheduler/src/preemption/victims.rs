//! Who would have to leave one node: as few as possible, and of those the least important.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;

use super::budgets::Budgets;
use crate::cycle::Trial;
use crate::framework::Rejection;
use crate::object::Pod;
use crate::state::NodeInfo;

/// The pods that leave a node, the most important first.
#[derive(Debug)]
pub struct Victims {
    pub node: Arc<str>,
    pub pods: Vec<Arc<Pod>>,
    /// How many of them a disruption budget protects.
    pub violations: usize,
}

/// More important pods come first: by priority, and among equals those that run longer.
fn importance(pod: &Arc<Pod>) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority), pod.started.unwrap_or(Timestamp::MAX))
}

/// # Errors
/// Why nobody's leaving helps here.
pub fn select(
    pod: &Pod,
    node: &NodeInfo,
    trial: &mut Trial<'_>,
    budgets: &Budgets<'_>,
) -> Result<Victims, Rejection> {
    if node.lowest_priority().is_none_or(|lowest| lowest >= pod.priority) {
        return Err(Rejection::unresolvable("No preemption victims found for incoming pod"));
    }
    let lesser = node.pods().iter().filter(|other| other.priority < pod.priority);
    let mut candidates: Vec<Arc<Pod>> = lesser.cloned().collect();
    trial.move_to(node);
    candidates.iter().for_each(|victim| trial.remove(victim));
    trial.allows().map_err(|(_, rejection)| rejection)?;
    candidates.sort_by_key(importance);

    let (protected, free) = split(candidates, budgets);
    let both = !protected.is_empty() && !free.is_empty();
    let mut pods = reprieve(protected, trial);
    let violations = pods.len();
    pods.extend(reprieve(free, trial));
    if both {
        pods.sort_by_key(importance);
    }
    Ok(Victims { node: node.name.clone(), pods, violations })
}

fn split(candidates: Vec<Arc<Pod>>, budgets: &Budgets<'_>) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    if budgets.is_empty() {
        return (Vec::new(), candidates);
    }
    let violated = budgets.violated_by(candidates.iter().map(|pod| &**pod));
    let (mut protected, mut free) = (Vec::new(), Vec::new());
    for (pod, violated) in candidates.into_iter().zip(violated) {
        if violated { protected.push(pod) } else { free.push(pod) }
    }
    (protected, free)
}

/// Lets back whoever fits beside the incoming pod, and gives the rest.
fn reprieve(candidates: Vec<Arc<Pod>>, trial: &mut Trial<'_>) -> Vec<Arc<Pod>> {
    let mut leaving = Vec::new();
    for candidate in candidates {
        trial.add(&candidate);
        if trial.allows().is_err() {
            trial.remove(&candidate);
            leaving.push(candidate);
        }
    }
    leaving
}
