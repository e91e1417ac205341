//! NodeResourcesFit: what a pod requests must be free; which of the nodes with room is best, a strategy says.

mod strategy;

use std::collections::BTreeSet;

pub use strategy::{ScoringStrategy, ShapePoint, StrategyType, WeightedResource};

use crate::cluster::Cluster;
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Code, Filter, Plugin, PreFilter, Reason, Rejection, Score, Verdict};
use crate::object::{Node, Pod};
use crate::resource::Amounts;
use crate::state::NodeInfo;

#[derive(Debug, Clone, Default)]
pub struct FitArgs {
    /// Extended resources that are somebody else's to check.
    pub ignored_resources: BTreeSet<String>,
    /// The same, for all with this part before the slash.
    pub ignored_resource_groups: BTreeSet<String>,
    pub scoring: ScoringStrategy,
}

#[derive(Default)]
pub struct Fit {
    args: FitArgs,
}

impl Fit {
    pub fn new(args: FitArgs) -> Self {
        Self { args }
    }

    fn ignores(&self, resource: &str) -> bool {
        let group = resource.split('/').next().unwrap_or_default();
        self.args.ignored_resources.contains(resource) || self.args.ignored_resource_groups.contains(group)
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD.or(Kinds::NODE_ALLOCATABLE).or(Kinds::POD_DELETE).or(Kinds::POD_SCALE_DOWN)
    }

    fn helps(&self, pod: &Pod, event: &Event, cluster: &Cluster) -> bool {
        if let Some(gone) = event.deleted_pod() {
            return gone.metadata.uid == pod.metadata.uid || makes_room(pod, gone, cluster);
        }
        match &event.subject {
            Subject::Node { old, new } => {
                let fits_empty = fits(&pod.request.exact, &Amounts::default(), 0, &new.allocatable);
                fits_empty && old.as_deref().is_none_or(|old| offers_more(pod, old, new))
            }
            Subject::Pod { old: Some(old), new: Some(new) } if !event.is_about(pod) => {
                frees_what_is_wanted(&pod.request.exact, &old.request.exact, &new.request.exact)
            }
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Cluster) -> PreFilter<'a> {
        PreFilter::filter(Room { fit: self, want: &pod.request.exact })
    }

    fn pre_score<'a>(&'a self, pod: &'a Pod, _: &'a Cluster, _: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(strategy::Scorer { strategy: &self.args.scoring, pod }))
    }
}

/// Whether there may be room now where `gone` was. A pod that waits for room of its own needs a node that has some
/// and is promised to nobody else; any other one may make those leave that are less important.
fn makes_room(pod: &Pod, gone: &Pod, cluster: &Cluster) -> bool {
    let Some(node) = cluster.state.node(&gone.node_name) else { return true };
    let Some(place) = node.node() else { return true };
    let (mut used, mut pods) = (node.requested.clone(), node.pods().len());
    if cluster.nominated.node_of(&pod.metadata.uid).is_some() {
        let promised = cluster.nominated.on(&node.name).iter();
        let others = promised.filter(|other| other.metadata.uid != pod.metadata.uid);
        for other in others.filter(|other| other.priority >= pod.priority) {
            used.add(&other.request.exact);
            pods += 1;
        }
    } else if !pod.never_preempts {
        for lesser in node.pods().iter().filter(|other| other.priority < pod.priority) {
            used.subtract(&lesser.request.exact);
            pods -= 1;
        }
    }
    fits(&pod.request.exact, &used, pods, &place.allocatable)
}

fn fits(want: &Amounts, used: &Amounts, pods: usize, allocatable: &Amounts) -> bool {
    (pods as i64) < allocatable.pods
        && want.milli_cpu <= allocatable.milli_cpu - used.milli_cpu
        && want.memory <= allocatable.memory - used.memory
        && want.ephemeral_storage <= allocatable.ephemeral_storage - used.ephemeral_storage
        && want
            .scalars
            .iter()
            .all(|(name, amount)| *amount == 0 || *amount <= allocatable.scalar(name) - used.scalar(name))
}

/// Whether a node has more than before of something that the pod wants.
fn offers_more(pod: &Pod, before: &Node, now: &Node) -> bool {
    now.allocatable.pods > before.allocatable.pods
        || frees_what_is_wanted(&pod.request.exact, &now.allocatable, &before.allocatable)
}

/// Whether `more` has more than `less` of something that is wanted.
fn frees_what_is_wanted(want: &Amounts, more: &Amounts, less: &Amounts) -> bool {
    (want.milli_cpu > 0 && more.milli_cpu > less.milli_cpu)
        || (want.memory > 0 && more.memory > less.memory)
        || (want.ephemeral_storage > 0 && more.ephemeral_storage > less.ephemeral_storage)
        || want.scalars.iter().any(|(name, want)| *want > 0 && more.scalar(name) > less.scalar(name))
}

struct Room<'a> {
    fit: &'a Fit,
    want: &'a Amounts,
}

/// The reasons against a node, while they are being found.
#[derive(Default)]
struct Lacks(Option<Rejection>);

impl Lacks {
    fn check(&mut self, want: i64, used: i64, capacity: i64, lacking: impl FnOnce() -> Reason) {
        if want > 0 && want > capacity - used {
            let code = if want > capacity { Code::Unresolvable } else { Code::Unschedulable };
            self.add(code, lacking());
        }
    }

    fn add(&mut self, code: Code, reason: Reason) {
        match &mut self.0 {
            None => self.0 = Some(Rejection { code, reason, also: Vec::new() }),
            Some(rejection) => {
                rejection.also.push(reason);
                if code == Code::Unresolvable {
                    rejection.code = code;
                }
            }
        }
    }
}

impl Filter for Room<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let Some(allocatable) = node.node().map(|node| &node.allocatable) else { return Ok(()) };
        let (want, used) = (self.want, &node.requested);
        if fits(want, used, node.pods().len(), allocatable) {
            return Ok(());
        }
        let mut lacks = Lacks::default();
        if node.pods().len() as i64 + 1 > allocatable.pods {
            lacks.add(Code::Unschedulable, "Too many pods".into());
        }
        // Said of thousands of nodes at a time: no text is made for it.
        for (resource, lacking) in [
            ("cpu", "Insufficient cpu"),
            ("memory", "Insufficient memory"),
            ("ephemeral-storage", "Insufficient ephemeral-storage"),
        ] {
            let (want, used) = (want.of(resource), used.of(resource));
            lacks.check(want, used, allocatable.of(resource), || lacking.into());
        }
        for (name, amount) in &want.scalars {
            if !self.fit.ignores(name) {
                let lacking = || format!("Insufficient {name}").into();
                lacks.check(*amount, used.scalar(name), allocatable.scalar(name), lacking);
            }
        }
        lacks.0.map_or(Ok(()), Err)
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Self { fit: self.fit, want: self.want })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{judge, pod, score, with_node};
    use std::sync::Arc;

    use serde_json::{Value, json};

    fn asking(requests: Value) -> Pod {
        pod(json!({"containers": [{"resources": {"requests": requests}}]}))
    }

    fn node() -> Value {
        json!({"status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "2", "example.com/gpu": "1"}}})
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let running = asking(json!({"cpu": "1", "memory": "3Gi", "example.com/gpu": "1"}));
        with_node(node(), vec![running], |node| {
            let want =
                json!({"cpu": "1500m", "memory": "1Gi", "example.com/gpu": "1", "ephemeral-storage": "1"});
            assert_eq!(
                judge(&Fit::default(), &asking(want), node),
                ["Insufficient cpu", "Insufficient ephemeral-storage", "Insufficient example.com/gpu"]
            );
            assert!(judge(&Fit::default(), &asking(json!({"cpu": "1"})), node).is_empty());
        });
        with_node(node(), vec![asking(json!({})), asking(json!({}))], |node| {
            assert_eq!(judge(&Fit::default(), &asking(json!({})), node), ["Too many pods"]);
        });
    }

    #[test]
    fn what_no_empty_node_has_cannot_be_made_free() {
        with_node(node(), vec![asking(json!({"cpu": "1"}))], |node| {
            let code = |want| {
                let (fit, want) = (Fit::default(), asking(want));
                let node = &node.0.state.nodes()[node.1];
                let rejection = Room { fit: &fit, want: &want.request.exact }.filter(node);
                rejection.expect_err("too much").code
            };
            assert_eq!(code(json!({"cpu": "2"})), Code::Unschedulable);
            assert_eq!(code(json!({"cpu": "3"})), Code::Unresolvable);
            assert_eq!(code(json!({"cpu": "2", "memory": "5Gi"})), Code::Unresolvable);
        });
    }

    #[test]
    fn a_pod_that_went_helps_who_fits_now_or_could_make_others_leave() {
        let placed = |uid: &str, cpu: &str, priority: i32| {
            let mut pod = asking(json!({"cpu": cpu}));
            (pod.metadata.uid, pod.node_name, pod.priority) = (uid.into(), "a".into(), priority);
            Arc::new(pod)
        };
        let mut cluster = Cluster::default();
        let node = json!({"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "4", "pods": "9"}}});
        cluster.state.node_added_or_updated(Arc::new(serde_json::from_value(node).expect("a node")));
        for (uid, cpu) in [("first", "1"), ("second", "2"), ("third", "1")] {
            cluster.state.pod_placed(placed(uid, cpu, 1));
        }
        let waiting = |uid: &str, cpu: &str, priority: i32| {
            let mut pod = asking(json!({"cpu": cpu}));
            (pod.metadata.uid, pod.priority) = (uid.into(), priority);
            Arc::new(pod)
        };
        let (equal, better) = (waiting("equal", "2", 1), waiting("better", "2", 9));
        let went = cluster.state.pod_removed("first").expect("it was there");
        let helps = |pod: &Pod, cluster: &Cluster| Fit::default().helps(pod, &went, cluster);
        assert!(!helps(&equal, &cluster), "one of two cores is free");
        assert!(helps(&better, &cluster), "others can leave for it");
        cluster.nominated.set(&better, "b");
        assert!(!helps(&better, &cluster), "it waits for room of its own");
        cluster.state.pod_removed("third");
        assert!(helps(&equal, &cluster) && helps(&better, &cluster));
        cluster.nominated.set(&waiting("other", "2", 9), "a");
        assert!(!helps(&better, &cluster), "that room is another's");
    }

    #[test]
    fn ignored_resources_are_not_checked() {
        let args =
            FitArgs { ignored_resource_groups: ["example.com".to_owned()].into(), ..FitArgs::default() };
        let fit = Fit::new(args);
        with_node(node(), vec![], |node| {
            assert!(judge(&fit, &asking(json!({"example.com/gpu": "5"})), node).is_empty());
            assert_eq!(
                judge(&fit, &asking(json!({"other.com/gpu": "5"})), node),
                ["Insufficient other.com/gpu"]
            );
        });
    }

    #[test]
    fn the_emptier_node_scores_higher() {
        let score = |pods| {
            let want = asking(json!({"cpu": "1", "memory": "1Gi"}));
            with_node(node(), pods, |node| score(&Fit::default(), &want, node))
        };
        // Half of the CPU and three quarters of the memory would be left.
        assert_eq!(score(vec![]), Some((50 + 75) / 2));
        assert_eq!(score(vec![asking(json!({"cpu": "1", "memory": "1Gi"}))]), Some(50 / 2));
        assert_eq!(score(vec![asking(json!({"cpu": "2", "memory": "4Gi"}))]), Some(0));
    }
}
