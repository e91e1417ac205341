//! What each Service has in the kernel, and what to change when Services or
//! endpoints do. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use knarr_client::ObjectKey;

use super::dataplane::StaleFlow;
use super::elements::{self, Difference, Elements};
use super::plan::{Destination, Front, Frontend};
use crate::pod::Protocol;

/// The frontends of all Services as last planned.
#[derive(Debug, Default)]
pub struct State {
    frontends: BTreeMap<ObjectKey, Vec<Frontend>>,
    /// Who has a front. Two Services can ask for the same one (`externalIPs`):
    /// the first keeps it.
    owners: HashMap<Front, ObjectKey>,
    /// Services that asked for a front of another, to be planned again when it
    /// becomes free.
    waiting: HashMap<Front, HashSet<ObjectKey>>,
}

/// Everything that follows from a change of some Services.
#[derive(Debug, Default)]
pub struct Update {
    pub difference: Difference,
    pub stale_flows: Vec<StaleFlow>,
    /// Endpoints that a front with session affinity lost.
    pub lost_affinity: Vec<(Front, SocketAddr)>,
    /// Services that may now have a front they asked for in vain.
    pub retry: HashSet<ObjectKey>,
}

impl State {
    /// Replaces what `service` has by `wanted`; empty when it is gone.
    pub fn set(&mut self, service: &ObjectKey, wanted: Vec<Frontend>, update: &mut Update) {
        let wanted = self.claim(service, wanted);
        let before = self.frontends.remove(service).unwrap_or_default();
        let (mut present, mut next) = (Elements::new(), Elements::new());
        before.iter().for_each(|frontend| elements::expand(frontend, &mut present));
        wanted.iter().for_each(|frontend| elements::expand(frontend, &mut next));
        update.difference.extend(&present, &next);
        let after: HashMap<Front, &Frontend> =
            wanted.iter().map(|frontend| (frontend.front, frontend)).collect();
        for frontend in &before {
            let now = after.get(&frontend.front).copied();
            note_losses(frontend, now, update);
            if now.is_none() {
                self.owners.remove(&frontend.front);
                update.retry.extend(self.waiting.remove(&frontend.front).unwrap_or_default());
            }
        }
        note_first_endpoints(&before, &wanted, update);
        if !wanted.is_empty() {
            self.frontends.insert(service.clone(), wanted);
        }
    }

    /// All elements that should be in the kernel.
    pub fn elements(&self) -> Elements {
        let mut all = Elements::new();
        self.frontends.values().flatten().for_each(|frontend| elements::expand(frontend, &mut all));
        all
    }

    pub fn services(&self) -> impl Iterator<Item = &ObjectKey> {
        self.frontends.keys()
    }

    /// The frontends of all Services.
    pub fn frontends(&self) -> impl Iterator<Item = &Frontend> {
        self.frontends.values().flatten()
    }

    fn claim(&mut self, service: &ObjectKey, wanted: Vec<Frontend>) -> Vec<Frontend> {
        for waiting in self.waiting.values_mut() {
            waiting.remove(service);
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        let mut granted = Vec::with_capacity(wanted.len());
        for frontend in wanted {
            let owner = self.owners.entry(frontend.front).or_insert_with(|| service.clone());
            if owner == service {
                granted.push(frontend);
            } else {
                tracing::warn!(%service, %owner, front = ?frontend.front, "address and port are used by another service");
                self.waiting.entry(frontend.front).or_default().insert(service.clone());
            }
        }
        granted
    }
}

fn destinations(frontend: &Frontend) -> impl Iterator<Item = &Destination> {
    [&frontend.main].into_iter().chain(&frontend.shortcut)
}

/// Endpoints that were used and are not any more: conntrack and affinity must
/// forget them.
fn note_losses(before: &Frontend, after: Option<&Frontend>, update: &mut Update) {
    let remain: HashSet<SocketAddr> =
        after.into_iter().flat_map(destinations).flat_map(|to| to.endpoints.iter().copied()).collect();
    let mut lost: Vec<(SocketAddr, bool)> = destinations(before)
        .flat_map(|to| to.endpoints.iter().map(|endpoint| (*endpoint, to.affinity.is_some())))
        .filter(|(endpoint, _)| !remain.contains(endpoint))
        .collect();
    lost.sort_unstable();
    lost.dedup();
    for (endpoint, had_affinity) in lost {
        if before.front.protocol == Protocol::Udp {
            update.stale_flows.push(StaleFlow { front: before.front, endpoint: Some(endpoint) });
        }
        if had_affinity {
            update.lost_affinity.push((before.front, endpoint));
        }
    }
}

/// Packets to a UDP front without endpoints were tracked untranslated; now that
/// it has some, such clients must be tracked anew.
fn note_first_endpoints(before: &[Frontend], after: &[Frontend], update: &mut Update) {
    let served: HashSet<Front> = before
        .iter()
        .filter(|frontend| !frontend.main.endpoints.is_empty())
        .map(|frontend| frontend.front)
        .collect();
    let newly = after.iter().filter(|frontend| {
        let front = frontend.front;
        front.protocol == Protocol::Udp && !frontend.main.endpoints.is_empty() && !served.contains(&front)
    });
    update.stale_flows.extend(newly.map(|frontend| StaleFlow { front: frontend.front, endpoint: None }));
}

/// Addresses whose pods are about to stop, counted: a pod may be withdrawn twice.
#[derive(Debug, Default)]
pub struct Withdrawn(HashMap<IpAddr, usize>);

impl Withdrawn {
    pub fn add(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            *self.0.entry(*address).or_default() += 1;
        }
    }

    pub fn remove(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            if let Some(count) = self.0.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(address);
                }
            }
        }
    }

    pub fn addresses(&self) -> HashSet<IpAddr> {
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests;
