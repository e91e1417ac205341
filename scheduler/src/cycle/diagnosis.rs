//! What spoke against each node, and the sentence that is made of it.

use std::collections::BTreeMap;

use crate::framework::{Code, Reason, Rejection};

#[derive(Debug, Default)]
pub struct Diagnosis {
    /// Why no node was even looked at.
    before: Option<Rejection>,
    /// Slots of the nodes that were looked at.
    nodes: Vec<(usize, Code)>,
    reasons: BTreeMap<Reason, usize>,
    /// What is said of nodes that were not looked at.
    others: Option<Rejection>,
    rejectors: Vec<&'static str>,
}

impl Diagnosis {
    pub fn before_all_nodes(plugin: &'static str, rejection: Rejection) -> Self {
        Self { before: Some(rejection), rejectors: vec![plugin], ..Self::default() }
    }

    pub fn add(&mut self, slot: usize, plugin: &'static str, rejection: Rejection) {
        self.note(plugin);
        self.count(slot, rejection);
    }

    /// The same, for what is no plugin's.
    pub fn count(&mut self, slot: usize, rejection: Rejection) {
        self.nodes.push((slot, rejection.code));
        for reason in std::iter::once(rejection.reason).chain(rejection.also) {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    pub fn others_are_left_out_by(&mut self, plugin: &'static str) {
        self.note(plugin);
        let reason = format!("node(s) didn't satisfy plugin(s) [{plugin}]");
        self.others = Some(Rejection::unresolvable(reason));
    }

    pub fn say_of_others(&mut self, rejection: Rejection) {
        self.others = Some(rejection);
    }

    fn note(&mut self, plugin: &'static str) {
        if !self.rejectors.contains(&plugin) {
            self.rejectors.push(plugin);
        }
    }

    pub fn rejectors(&self) -> Vec<&'static str> {
        self.rejectors.clone()
    }

    /// The slots of nodes where it would help if other pods left. `all` are the slots there are.
    pub fn where_pods_are_in_the_way(&self, all: &[usize]) -> Vec<usize> {
        match &self.before {
            Some(rejection) if rejection.code == Code::Unschedulable => all.to_vec(),
            Some(_) => Vec::new(),
            None => {
                let in_the_way = self.nodes.iter().filter(|(_, code)| *code == Code::Unschedulable);
                in_the_way.map(|(slot, _)| *slot).collect()
            }
        }
    }

    /// What was found about one node.
    pub fn code_of(&self, slot: usize) -> Code {
        if let Some(before) = &self.before {
            return before.code;
        }
        let found = self.nodes.iter().find(|(other, _)| *other == slot);
        found.map_or(Code::Unresolvable, |(_, code)| *code)
    }

    /// `0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu.`
    pub fn message(&self, nodes: usize) -> String {
        if let Some(before) = &self.before {
            let reasons: Vec<&str> = before.reasons().map(|reason| &**reason).collect();
            return format!("0/{nodes} nodes are available: {}.", reasons.join(", "));
        }
        let mut reasons = self.reasons.clone();
        if let (Some(others), true) = (&self.others, self.nodes.len() < nodes) {
            for reason in others.reasons() {
                *reasons.entry(reason.clone()).or_default() += nodes - self.nodes.len();
            }
        }
        describe(nodes, &reasons)
    }
}

/// The counted reasons, sorted as texts.
fn describe(nodes: usize, reasons: &BTreeMap<Reason, usize>) -> String {
    let mut counted: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    if counted.is_empty() {
        return format!("0/{nodes} nodes are available:");
    }
    format!("0/{nodes} nodes are available: {}.", counted.join(", "))
}
