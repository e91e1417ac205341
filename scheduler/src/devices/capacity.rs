//! How much of a device's capacity a request takes: what it asks for, rounded up as the device's policy says.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{
    CapacityRequestPolicy, CapacityRequestPolicyRange, Device, DeviceCapacity,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use knarr_api::quantity::{Format, Quantity};

/// By capacity.
pub type Amounts = BTreeMap<String, Quantity>;

fn read(written: &Written) -> Option<Quantity> {
    written.0.parse().ok()
}

/// What a request takes of each capacity of a device; `None` if it asks for a capacity that the device does not
/// have, or for an amount that its policy forbids.
pub fn of_request(wanted: Option<&BTreeMap<String, Written>>, device: &Device) -> Option<Amounts> {
    let none = BTreeMap::new();
    let capacity = device.capacity.as_ref().unwrap_or(&none);
    if wanted.is_some_and(|wanted| wanted.keys().any(|name| !capacity.contains_key(name))) {
        return None;
    }
    let mut amounts = Amounts::new();
    for (name, capacity) in capacity {
        let asked = match wanted.and_then(|wanted| wanted.get(name)) {
            Some(asked) => Some(read(asked)?),
            None => None,
        };
        let amount = rounded(asked, capacity)?;
        if capacity.request_policy.as_ref().is_some_and(|policy| violates(&amount, policy)) {
            return None;
        }
        amounts.insert(name.clone(), amount);
    }
    Some(amounts)
}

/// Whether a device has that much left beside what others consume.
pub fn suffices<'u>(
    amounts: &Amounts,
    device: &Device,
    others: impl Iterator<Item = &'u Amounts> + Clone,
) -> bool {
    amounts.iter().all(|(name, amount)| {
        let capacity = device.capacity.as_ref().and_then(|capacity| read(&capacity.get(name)?.value));
        let consumed = others.clone().filter_map(|other| other.get(name));
        let sum = consumed.fold(amount.clone(), |sum, other| sum.add(other));
        capacity.is_some_and(|capacity| sum <= capacity)
    })
}

fn rounded(asked: Option<Quantity>, capacity: &DeviceCapacity) -> Option<Quantity> {
    let policy = capacity.request_policy.as_ref();
    let Some(asked) = asked else {
        return read(policy.and_then(|policy| policy.default.as_ref()).unwrap_or(&capacity.value));
    };
    let Some(policy) = policy else { return Some(asked) };
    if let Some(range) = &policy.valid_range {
        return up_in_range(asked, range);
    }
    let mut values = policy.valid_values.iter().flatten().filter_map(read);
    Some(values.find(|value| asked <= *value).unwrap_or(asked))
}

/// The next step of the range that is not less.
fn up_in_range(asked: Quantity, range: &CapacityRequestPolicyRange) -> Option<Quantity> {
    let least = read(&range.min)?;
    if asked < least {
        return Some(least);
    }
    let Some(step) = range.step.as_ref().and_then(read).map(|step| step.value()).filter(|step| *step > 0)
    else {
        return Some(asked);
    };
    let (from, beyond) = (least.value(), asked.value().saturating_sub(least.value()));
    let steps = beyond / step + i64::from(beyond % step != 0);
    Some(Quantity::new(from.saturating_add(step.saturating_mul(steps)), Format::BinarySi))
}

fn violates(amount: &Quantity, policy: &CapacityRequestPolicy) -> bool {
    if policy.default.as_ref().and_then(read).is_some_and(|default| default == *amount) {
        return false;
    }
    if let Some(range) = &policy.valid_range {
        let above = range.max.as_ref().and_then(read).is_some_and(|most| *amount > most);
        let step = range.step.as_ref().and_then(read).map(|step| step.value()).filter(|step| *step > 0);
        let least = read(&range.min).map_or(0, |least| least.value());
        return above || step.is_some_and(|step| amount.value().saturating_sub(least) % step != 0);
    }
    let values = policy.valid_values.as_deref().unwrap_or_default();
    !values.is_empty() && !values.iter().filter_map(read).any(|value| value == *amount)
}
