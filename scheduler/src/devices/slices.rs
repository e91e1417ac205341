//! ResourceSlices, by the node they are for and by their pool, so that a node's devices are found without a look at
//! those of all others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceSlice;
use knarr_client::Cached;

type ByName = BTreeMap<Box<str>, Arc<ResourceSlice>>;
type ByPool = HashMap<(Box<str>, Box<str>), ByName>;

#[derive(Debug, Default)]
pub struct Slices {
    all: ByName,
    on_node: HashMap<Box<str>, ByName>,
    /// Those that are not for one node alone.
    shared: ByName,
    by_pool: ByPool,
}

/// The one node that a slice is for; counters belong to the whole pool.
fn node_of(slice: &ResourceSlice) -> Option<&str> {
    let counters = slice.spec.shared_counters.as_deref().unwrap_or_default();
    slice.spec.node_name.as_deref().filter(|name| !name.is_empty() && counters.is_empty())
}

fn pool_of(slice: &ResourceSlice) -> (Box<str>, Box<str>) {
    (slice.spec.driver.as_str().into(), slice.spec.pool.name.as_str().into())
}

impl Slices {
    pub fn set(&mut self, slice: Arc<ResourceSlice>) {
        self.remove(slice.name());
        let name: Box<str> = slice.name().into();
        let place = match node_of(&slice) {
            Some(node) => self.on_node.entry(node.into()).or_default(),
            None => &mut self.shared,
        };
        place.insert(name.clone(), slice.clone());
        self.by_pool.entry(pool_of(&slice)).or_default().insert(name.clone(), slice.clone());
        self.all.insert(name, slice);
    }

    pub fn remove(&mut self, name: &str) {
        let Some(slice) = self.all.remove(name) else { return };
        match node_of(&slice) {
            None => {
                self.shared.remove(name);
            }
            Some(node) => {
                let here = self.on_node.get_mut(node);
                if here.is_some_and(|here| here.remove(name).is_some() && here.is_empty()) {
                    self.on_node.remove(node);
                }
            }
        }
        let pool = pool_of(&slice);
        if self.by_pool.get_mut(&pool).is_some_and(|here| here.remove(name).is_some() && here.is_empty()) {
            self.by_pool.remove(&pool);
        }
    }

    /// Those that may have devices for a node.
    pub fn near(&self, node: &str) -> impl Iterator<Item = &ResourceSlice> {
        let here = self.on_node.get(node).into_iter().flat_map(BTreeMap::values);
        here.chain(self.shared.values()).map(|slice| &**slice)
    }

    /// Those of a pool, wherever they are for.
    pub fn of_pool(&self, driver: &str, pool: &str) -> impl Iterator<Item = &ResourceSlice> {
        let slices = self.by_pool.get(&(driver.into(), pool.into()));
        slices.into_iter().flat_map(BTreeMap::values).map(|slice| &**slice)
    }
}
