//! DefaultPreemption: where no node has room, which pods of less importance should leave which node.

mod budgets;
mod choice;
mod victims;

use std::sync::Arc;

use knarr_api::time::Random;

pub use victims::Victims;

use crate::cluster::Cluster;
use crate::cycle::{Diagnosis, Judge, Trial};
use crate::framework::{Code, Rejection};
use crate::object::Pod;
use crate::profile::Profile;

/// DefaultPreemptionArgs.
#[derive(Debug, Clone, Copy)]
pub struct PreemptionArgs {
    /// How many of the nodes that may do are tried, in percent.
    pub min_candidate_nodes_percentage: usize,
    pub min_candidate_nodes_absolute: usize,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

/// What is done for a pod that fits nowhere.
#[derive(Debug)]
pub enum Preemption {
    /// Nothing, and a nomination it may have ends.
    ClearNomination,
    /// Nothing, and a nomination it may have stays; with the reason.
    Wait(String),
    /// Nothing would help, and a nomination it may have ends; with the reason.
    Helpless(String),
    /// These pods leave, and the pod may have their place.
    MakeRoom { node: Arc<str>, victims: Vec<Arc<Pod>> },
}

impl Preemption {
    /// What is said of it on the pod.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Wait(message) | Self::Helpless(message) => Some(message),
            Self::ClearNomination | Self::MakeRoom { .. } => None,
        }
    }

    /// The node the pod is nominated for from now on; `None` leaves the nomination as it is.
    pub fn nomination(&self) -> Option<&str> {
        match self {
            Self::Wait(_) => None,
            Self::ClearNomination | Self::Helpless(_) => Some(""),
            Self::MakeRoom { node, .. } => Some(node),
        }
    }
}

pub fn attempt(
    pod: &Pod,
    profile: &Profile,
    cluster: &Cluster,
    judge: Option<&Judge<'_>>,
    diagnosis: &Diagnosis,
    args: PreemptionArgs,
    random: &dyn Random,
) -> Preemption {
    if let Some(why_not) = not_eligible(pod, cluster, diagnosis) {
        return Preemption::Wait(why_not.to_owned());
    }
    let fresh;
    let judge = match judge {
        Some(judge) => judge,
        None => match Judge::new(pod, profile, cluster) {
            Ok(judge) => {
                fresh = judge;
                &fresh
            }
            Err(_) => return helpless(Diagnosis::default(), cluster),
        },
    };
    let potential = diagnosis.where_pods_are_in_the_way(cluster.state.order());
    if potential.is_empty() {
        return helpless(Diagnosis::default(), cluster);
    }
    let wanted = args.wanted(potential.len());
    let offset = random.below(potential.len() as u64) as usize;
    let budgets = budgets::Budgets::of(&cluster.objects);
    let (mut kind, mut violating) = (Vec::new(), Vec::new());
    let (mut against, mut trial) = (Diagnosis::default(), Trial::new(judge));
    for &slot in potential[offset..].iter().chain(&potential[..offset]) {
        match victims::select(pod, &cluster.state.nodes()[slot], &mut trial, &budgets) {
            Ok(victims) if victims.violations == 0 => kind.push(victims),
            Ok(victims) => violating.push(victims),
            Err(rejection) => against.count(slot, rejection),
        }
        if !kind.is_empty() && kind.len() + violating.len() >= wanted {
            break;
        }
    }
    kind.append(&mut violating);
    match choice::best(kind) {
        None => helpless(against, cluster),
        Some(best) => Preemption::MakeRoom { node: best.node, victims: best.pods },
    }
}

fn helpless(mut against: Diagnosis, cluster: &Cluster) -> Preemption {
    against.say_of_others(Rejection::unresolvable("Preemption is not helpful for scheduling"));
    Preemption::Helpless(against.message(cluster.state.order().len()))
}

impl PreemptionArgs {
    fn wanted(&self, potential: usize) -> usize {
        (potential * self.min_candidate_nodes_percentage / 100)
            .max(self.min_candidate_nodes_absolute)
            .min(potential)
    }
}

/// Why the pod may not make others leave.
fn not_eligible(pod: &Pod, cluster: &Cluster, diagnosis: &Diagnosis) -> Option<&'static str> {
    if pod.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = cluster.nominated.node_of(&pod.metadata.uid).unwrap_or(&pod.nominated_node);
    let node = cluster.state.node(nominated)?;
    if diagnosis.code_of(node.slot) == Code::Unresolvable {
        return None;
    }
    let leaving =
        node.pods().iter().any(|other| other.priority < pod.priority && other.is_leaving_for_another());
    leaving.then_some("not eligible due to a terminating pod on the nominated node.")
}

#[cfg(test)]
mod tests;
