//! Who has devices: whole ones, and shares of those that several claims may have.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult};
use knarr_api::quantity::Quantity;

/// What of a device is taken.
#[derive(Debug, Default)]
pub struct Use {
    /// Claims that have it for themselves.
    whole: u32,
    /// Claims that have a share of it.
    shares: u32,
    /// By capacity, what the shares consume.
    pub consumed: BTreeMap<String, Quantity>,
}

impl Use {
    pub fn is_whole(&self) -> bool {
        self.whole > 0
    }

    pub fn is_any(&self) -> bool {
        self.whole > 0 || self.shares > 0
    }
}

/// The devices of one pool, by name.
pub type PoolUse = HashMap<Box<str>, Use>;

#[derive(Debug, Default)]
pub struct InUse(HashMap<Box<str>, HashMap<Box<str>, PoolUse>>);

impl InUse {
    pub fn of_pool(&self, driver: &str, pool: &str) -> Option<&PoolUse> {
        self.0.get(driver)?.get(pool)
    }

    pub fn add(&mut self, allocation: &AllocationResult) {
        for result in taken(allocation) {
            let device = self.0.entry(result.driver.as_str().into()).or_default();
            let device = device.entry(result.pool.as_str().into()).or_default();
            let device = device.entry(result.device.as_str().into()).or_default();
            if result.share_id.is_none() {
                device.whole += 1;
                continue;
            }
            device.shares += 1;
            for (name, amount) in consumed(result) {
                let sum = device.consumed.entry(name.clone()).or_insert(Quantity::ZERO);
                *sum = sum.add(&amount);
            }
        }
    }

    /// Undoes [`Self::add`] of an equal allocation.
    pub fn remove(&mut self, allocation: &AllocationResult) {
        for result in taken(allocation) {
            let Some(pools) = self.0.get_mut(&*result.driver) else { continue };
            let Some(pool) = pools.get_mut(&*result.pool) else { continue };
            let Some(device) = pool.get_mut(&*result.device) else { continue };
            if result.share_id.is_none() {
                device.whole = device.whole.saturating_sub(1);
            } else {
                device.shares = device.shares.saturating_sub(1);
                for (name, amount) in consumed(result) {
                    if let Some(sum) = device.consumed.get_mut(name) {
                        *sum = sum.sub(&amount);
                    }
                }
            }
            if !device.is_any() {
                pool.remove(&*result.device);
            }
            if pool.is_empty() {
                pools.remove(&*result.pool);
            }
        }
    }
}

/// Devices for administration are nobody's.
fn taken(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    let devices = allocation.devices.iter();
    let results = devices.flat_map(|devices| devices.results.iter().flatten());
    results.filter(|result| result.admin_access != Some(true))
}

/// Amounts that cannot be read are none: the API server lets none in.
fn consumed(result: &DeviceRequestAllocationResult) -> impl Iterator<Item = (&String, Quantity)> {
    let amounts = result.consumed_capacity.iter().flatten();
    amounts.filter_map(|(name, amount)| Some((name, amount.0.parse().ok()?)))
}
