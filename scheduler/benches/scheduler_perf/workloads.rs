//! The workloads: which nodes, which pods are there before, which are measured, and what else happens meanwhile.

use crate::pods::{
    Node, Pod, affinity, anti_affinity, basic, daemon, gated, high_priority, large, light, low_priority,
    node_affinity, one_zone, soft_spread, spread, three_zones, too_large,
};

pub struct Workload {
    pub name: &'static str,
    /// Upstream's, in pods per second.
    pub threshold: f64,
    pub nodes: Vec<(usize, Node)>,
    pub before: Vec<(usize, Pod)>,
    pub measured: (usize, Pod),
    pub meanwhile: Meanwhile,
}

/// What happens while pods are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    Nothing,
    /// Nodes, services and pods that fit nowhere come and go.
    MixedChurn,
    /// Pods that fit nowhere come.
    Unschedulable,
    /// Pods that were there before go, fifty each second.
    Deletions,
}

pub fn workloads() -> Vec<Workload> {
    let usual = |name, threshold, before, measured| Workload {
        name,
        threshold,
        nodes: vec![(5_000, one_zone as Node)],
        before,
        measured,
        meanwhile: Meanwhile::Nothing,
    };
    let in_three_zones = |workload| Workload { nodes: vec![(5_000, three_zones as Node)], ..workload };
    vec![
        usual("SchedulingBasic", 680.0, vec![(1_000, basic as Pod)], (10_000, basic)),
        usual("NodeAffinity", 220.0, vec![(5_000, node_affinity as Pod)], (10_000, node_affinity)),
        in_three_zones(usual("TopologySpreading", 460.0, vec![(5_000, basic as Pod)], (5_000, spread))),
        in_three_zones(usual(
            "PreferredTopologySpreading",
            340.0,
            vec![(5_000, basic as Pod)],
            (5_000, soft_spread),
        )),
        usual("PodAffinity", 35.0, vec![(5_000, affinity as Pod)], (5_000, affinity)),
        usual("PodAntiAffinity", 60.0, vec![(1_000, anti_affinity as Pod)], (2_000, anti_affinity)),
        usual("Preemption", 570.0, vec![(20_000, low_priority as Pod)], (5_000, high_priority)),
        Workload {
            meanwhile: Meanwhile::Unschedulable,
            ..usual("Unschedulable", 170.0, vec![(100, too_large as Pod)], (10_000, basic))
        },
        Workload {
            meanwhile: Meanwhile::MixedChurn,
            ..usual("MixedChurn", 710.0, Vec::new(), (10_000, basic))
        },
        Workload {
            nodes: vec![(1, large as Node), (15_000, one_zone)],
            ..usual("Daemonset", 1_100.0, Vec::new(), (30_000, daemon))
        },
        Workload {
            nodes: vec![(1, large as Node)],
            meanwhile: Meanwhile::Deletions,
            ..usual("Gated", 130.0, vec![(10_000, gated as Pod), (20_000, light)], (20_000, light))
        },
    ]
}
