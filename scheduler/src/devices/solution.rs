//! Devices that were found, as they are written into the claims.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, Device, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceClass,
    DeviceRequestAllocationResult, ResourceClaim, ResourceSlice,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_api::time::Random;

use super::capacity::Amounts;
use super::request::{Request, asked_of, requests_of};
use crate::object::Node;

/// What the first alternative of a request is worth; each further one less.
const BEST_ALTERNATIVE: i64 = 8;

/// One device for one request.
pub struct Picked<'a> {
    pub request: Request<'a>,
    pub driver: &'a str,
    pub pool: &'a str,
    pub slice: &'a ResourceSlice,
    pub device: &'a Device,
    /// What is consumed of a device that others may have too.
    pub share: Option<Amounts>,
}

/// The requests of a claim as they were satisfied, with their classes.
type Chosen<'a> = Vec<(Request<'a>, &'a DeviceClass)>;

struct Part<'a> {
    claim: &'a ResourceClaim,
    chosen: Chosen<'a>,
    picked: Vec<Picked<'a>>,
}

pub struct Solution<'a> {
    node: &'a Node,
    parts: Vec<Part<'a>>,
}

impl<'a> Solution<'a> {
    pub(super) fn new(node: &'a Node, parts: Vec<(&'a ResourceClaim, Chosen<'a>, Vec<Picked<'a>>)>) -> Self {
        let part = |(claim, chosen, picked)| Part { claim, chosen, picked };
        Self { node, parts: parts.into_iter().map(part).collect() }
    }

    /// More for earlier alternatives.
    pub fn score(&self) -> i64 {
        self.parts.iter().map(|part| alternatives_score(part.claim, &part.chosen)).sum()
    }

    /// What is written into the claims, in their order.
    pub fn allocations(&self, random: &dyn Random) -> Vec<AllocationResult> {
        let part = |part: &Part<'_>| AllocationResult {
            allocation_timestamp: None,
            devices: Some(DeviceAllocationResult {
                config: some(configuration(part.claim, &part.chosen)),
                results: some(part.picked.iter().map(|picked| result(picked, random)).collect()),
            }),
            node_selector: nodes_of(&part.picked, self.node),
        };
        self.parts.iter().map(part).collect()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn alternatives_score(claim: &ResourceClaim, chosen: &Chosen<'_>) -> i64 {
    let mut score = 0;
    for request in requests_of(claim) {
        let alternatives = request.first_available.as_deref().unwrap_or_default();
        let rank = alternatives.iter().position(|alternative| {
            let is =
                |(of, _): &(Request<'_>, _)| of.parent == Some(&request.name) && of.name == alternative.name;
            chosen.iter().any(is)
        });
        score += rank.map_or(0, |rank| BEST_ALTERNATIVE - rank as i64);
    }
    score
}

fn result(picked: &Picked<'_>, random: &dyn Random) -> DeviceRequestAllocationResult {
    let written = |amount: &knarr_api::quantity::Quantity| Quantity(amount.to_string());
    let consumed = picked.share.as_ref().map(|share| {
        share.iter().map(|(name, amount)| (name.clone(), written(amount))).collect::<BTreeMap<_, _>>()
    });
    DeviceRequestAllocationResult {
        admin_access: picked.request.admin_access.then_some(true),
        consumed_capacity: consumed.filter(|consumed| !consumed.is_empty()),
        device: picked.device.name.clone(),
        driver: picked.driver.to_owned(),
        pool: picked.pool.to_owned(),
        request: picked.request.full_name(),
        share_id: picked.share.as_ref().map(|_| new_uid(random)),
        tolerations: picked.request.tolerations.filter(|tolerations| !tolerations.is_empty()).cloned(),
        ..DeviceRequestAllocationResult::default()
    }
}

/// A random UUID.
fn new_uid(random: &dyn Random) -> String {
    let (high, low) = (random.next_u64(), random.next_u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        ((low >> 48) & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff,
    )
}

/// Each class' configuration once, for all requests of it; then the claim's.
fn configuration(claim: &ResourceClaim, chosen: &Chosen<'_>) -> Vec<DeviceAllocationConfiguration> {
    let mut all: Vec<DeviceAllocationConfiguration> = Vec::new();
    let mut seen = BTreeSet::new();
    for (_, class) in chosen {
        let name = class.metadata.name.as_deref().unwrap_or_default();
        if !seen.insert(name) {
            continue;
        }
        let of_class = chosen.iter().filter(|(_, other)| other.metadata.name == class.metadata.name);
        let requests: Vec<String> = of_class.map(|(request, _)| request.full_name()).collect();
        for config in class.spec.iter().flat_map(|spec| spec.config.iter().flatten()) {
            all.push(DeviceAllocationConfiguration {
                opaque: config.opaque.clone(),
                requests: Some(requests.clone()),
                source: "FromClass".to_owned(),
            });
        }
    }
    for config in asked_of(claim).and_then(|asked| asked.config.as_ref()).into_iter().flatten() {
        let requests = config.requests.as_deref().unwrap_or_default();
        let add = DeviceAllocationConfiguration {
            opaque: config.opaque.clone(),
            requests: config.requests.clone(),
            source: "FromClaim".to_owned(),
        };
        let times = match requests {
            [] => 1,
            _ => chosen.iter().filter(|(of, _)| requests.iter().any(|name| of.is_named(name))).count(),
        };
        all.extend(std::iter::repeat_n(add, times));
    }
    all
}

/// The nodes where the devices can be used; `None` for all.
fn nodes_of(picked: &[Picked<'_>], node: &Node) -> Option<NodeSelector> {
    let mut together = NodeSelectorTerm::default();
    for Picked { slice, device, .. } in picked {
        let (name, selector) = match slice.spec.per_device_node_selection {
            Some(true) => (&device.node_name, &device.node_selector),
            _ => (&slice.spec.node_name, &slice.spec.node_selector),
        };
        if name.is_some() || device.binds_to_node == Some(true) {
            return Some(only(node));
        }
        let Some([term]) = selector.as_ref().map(|selector| selector.node_selector_terms.as_slice()) else {
            continue;
        };
        extend(&mut together.match_fields, term.match_fields.as_deref());
        extend(&mut together.match_expressions, term.match_expressions.as_deref());
    }
    let limits = together.match_fields.is_some() || together.match_expressions.is_some();
    limits.then(|| NodeSelector { node_selector_terms: vec![together] })
}

fn only(node: &Node) -> NodeSelector {
    let requirement = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.metadata.name.to_string()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![requirement]), ..NodeSelectorTerm::default() };
    NodeSelector { node_selector_terms: vec![term] }
}

fn extend(to: &mut Option<Vec<NodeSelectorRequirement>>, from: Option<&[NodeSelectorRequirement]>) {
    for requirement in from.unwrap_or_default() {
        let to = to.get_or_insert_default();
        if !to.contains(requirement) {
            to.push(requirement.clone());
        }
    }
}
