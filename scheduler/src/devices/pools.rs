//! The pools of devices that a node can reach, of the newest generation, and whether they can be trusted.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{Device, ResourceSlice};

use super::Devices;
use super::counters::Counters;
use super::in_use::{PoolUse, Use};
use crate::object::Node;
use crate::plugins::selector_matches;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Usable,
    /// Not all slices of the generation are there yet.
    Incomplete,
    /// The slices contradict each other.
    Invalid,
}

pub struct Pool<'a> {
    pub driver: &'a str,
    pub name: &'a str,
    pub condition: Condition,
    /// With devices that the node may reach.
    pub slices: Vec<&'a ResourceSlice>,
    pub counters: Counters<'a>,
    in_use: [Option<&'a PoolUse>; 2],
}

impl<'a> Pool<'a> {
    /// As upstream names pools in messages.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.driver, self.name)
    }

    /// What other claims have of a device.
    pub fn uses(&self, device: &str) -> impl Iterator<Item = &'a Use> {
        self.in_use.into_iter().flatten().filter_map(move |devices| devices.get(device))
    }
}

pub fn devices_of(slice: &ResourceSlice) -> &[Device] {
    slice.spec.devices.as_deref().unwrap_or_default()
}

/// Whether devices for this name, for all nodes or for these nodes are for the node.
pub fn is_for(node: &Node, name: Option<&str>, all: Option<bool>, selector: Option<&NodeSelector>) -> bool {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => name == &*node.metadata.name,
        None => all == Some(true) || selector.is_some_and(|selector| selector_matches(selector, node)),
    }
}

fn is_relevant(slice: &ResourceSlice, node: &Node) -> bool {
    let spec = &slice.spec;
    if spec.shared_counters.as_ref().is_some_and(|counters| !counters.is_empty()) {
        return true;
    }
    if spec.per_device_node_selection == Some(true) {
        return devices_of(slice).iter().any(|device| device_is_for(device, node));
    }
    is_for(node, spec.node_name.as_deref(), spec.all_nodes, spec.node_selector.as_ref())
}

pub fn device_is_for(device: &Device, node: &Node) -> bool {
    is_for(node, device.node_name.as_deref(), device.all_nodes, device.node_selector.as_ref())
}

/// By driver and name; those with devices that are prepared after the decision come last.
pub fn of_node<'a>(devices: &'a Devices, node: &Node) -> Vec<Pool<'a>> {
    let mut found: BTreeMap<(&str, &str), Vec<&ResourceSlice>> = BTreeMap::new();
    for slice in devices.slices.near(&node.metadata.name).filter(|slice| is_relevant(slice, node)) {
        let slices = found.entry((&slice.spec.driver, &slice.spec.pool.name)).or_default();
        let newest = slices.first().map_or(i64::MIN, |first| first.spec.pool.generation);
        if slice.spec.pool.generation > newest {
            slices.clear();
        }
        if slice.spec.pool.generation >= newest {
            slices.push(slice);
        }
    }
    let mut pools: Vec<Pool<'_>> = found
        .into_iter()
        .filter_map(|((driver, name), slices)| pool(devices, driver, name, slices))
        .collect();
    pools.sort_by_key(|pool| {
        let mut all = pool.slices.iter().flat_map(|slice| devices_of(slice));
        all.any(|device| device.binding_conditions.is_some())
    });
    pools
}

/// `None` if a newer generation is on its way, though none of it is for the node.
fn pool<'a>(
    devices: &'a Devices,
    driver: &'a str,
    name: &'a str,
    mut slices: Vec<&'a ResourceSlice>,
) -> Option<Pool<'a>> {
    let in_use = [devices.in_use.of_pool(driver, name), devices.in_use_soon.of_pool(driver, name)];
    let mut made = Pool {
        driver,
        name,
        condition: Condition::Usable,
        slices: Vec::new(),
        counters: Counters::default(),
        in_use,
    };
    let first = &slices.first()?.spec.pool;
    let (generation, count) = (first.generation, first.resource_slice_count);
    let mut elsewhere = Vec::new();
    if slices.len() as i64 != count {
        let all: Vec<&ResourceSlice> = devices.slices.of_pool(driver, name).collect();
        if all.iter().any(|slice| slice.spec.pool.generation > generation) {
            return None;
        }
        let current = all.into_iter().filter(|slice| slice.spec.pool.generation == generation);
        let mut others: Vec<_> =
            current.filter(|slice| !slices.iter().any(|here| std::ptr::eq(*here, *slice))).collect();
        if (slices.len() + others.len()) as i64 != count {
            made.condition = Condition::Incomplete;
            return Some(made);
        }
        elsewhere.append(&mut others);
    }
    slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let has_counters =
        |slice: &&ResourceSlice| slice.spec.shared_counters.as_ref().is_some_and(|sets| !sets.is_empty());
    let (counting, with_devices): (Vec<_>, Vec<_>) = slices.into_iter().partition(has_counters);
    let all_devices = || with_devices.iter().chain(&elsewhere).flat_map(|slice| devices_of(slice));
    let mut names = BTreeSet::new();
    let unique =
        with_devices.iter().flat_map(|slice| devices_of(slice)).all(|device| names.insert(&device.name));
    match Counters::of(&counting, all_devices()) {
        Some(counters) if unique => made.counters = counters,
        _ => {
            made.condition = Condition::Invalid;
            return Some(made);
        }
    }
    for device in all_devices() {
        if made.uses(&device.name).any(Use::is_any) {
            made.counters.consume(device);
        }
    }
    made.slices = with_devices;
    Some(made)
}
