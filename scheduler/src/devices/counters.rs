//! What the devices of a pool share: partitions of one piece of hardware draw on the same counters.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use knarr_api::quantity::Quantity;

/// What is left, by counter set and counter.
#[derive(Default)]
pub struct Counters<'a>(BTreeMap<(&'a str, &'a str), Quantity>);

/// By counter set and counter, how much a device consumes.
fn consumption(device: &Device) -> impl Iterator<Item = ((&str, &str), Option<Quantity>)> {
    device.consumes_counters.iter().flatten().flat_map(|set| {
        let counters = set.counters.iter();
        counters
            .map(|(name, counter)| ((set.counter_set.as_str(), name.as_str()), counter.value.0.parse().ok()))
    })
}

impl<'a> Counters<'a> {
    /// `None` if counter sets share a name, or devices consume counters that are not there.
    pub fn of(slices: &[&'a ResourceSlice], devices: impl Iterator<Item = &'a Device>) -> Option<Self> {
        let mut counters = BTreeMap::new();
        let mut sets = std::collections::BTreeSet::new();
        for set in slices.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten()) {
            if !sets.insert(set.name.as_str()) {
                return None;
            }
            for (name, counter) in &set.counters {
                counters.insert((set.name.as_str(), name.as_str()), counter.value.0.parse().ok()?);
            }
        }
        let mut consumed = devices.flat_map(consumption);
        consumed
            .all(|(key, amount)| amount.is_some() && counters.contains_key(&key))
            .then_some(Self(counters))
    }

    /// Whether enough is left for a device.
    pub fn suffice(&self, device: &Device) -> bool {
        // More than one entry of a device may name the same counter.
        let mut wanted: BTreeMap<(&str, &str), Quantity> = BTreeMap::new();
        for (key, amount) in consumption(device) {
            let sum = wanted.entry(key).or_insert(Quantity::ZERO);
            *sum = sum.add(&amount.unwrap_or(Quantity::ZERO));
        }
        wanted.iter().all(|(key, amount)| self.0.get(key).is_some_and(|left| left >= amount))
    }

    pub fn consume(&mut self, device: &'a Device) {
        self.change(device, Quantity::sub);
    }

    pub fn release(&mut self, device: &'a Device) {
        self.change(device, Quantity::add);
    }

    fn change(&mut self, device: &'a Device, by: fn(&Quantity, &Quantity) -> Quantity) {
        for (key, amount) in consumption(device) {
            if let (Some(left), Some(amount)) = (self.0.get_mut(&key), amount) {
                *left = by(left, &amount);
            }
        }
    }
}
