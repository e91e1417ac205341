//! The policies and bindings there are, compiled once, in the order of their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::compile::{Compiled, CompiledBinding};
use super::definition::{Binding, Policy};
use crate::authz::{Index as Follower, follow};
use crate::objects::{Objects, Resource, Stored};

pub const GROUP: &str = "admissionregistration.k8s.io";

/// A policy with its bindings; one without bindings is not asked.
pub struct Bound {
    pub policy: Arc<Compiled>,
    pub bindings: Vec<Arc<CompiledBinding>>,
}

type All = Arc<Vec<Bound>>;

/// All policies. Requests read a list that never changes; a change makes a new one.
#[derive(Default)]
pub struct Index {
    validating: Kind,
    mutating: Kind,
}

#[derive(Default)]
struct Kind {
    known: Mutex<Known>,
    all: ArcSwap<Vec<Bound>>,
}

#[derive(Default)]
struct Known {
    policies: BTreeMap<Box<str>, Arc<Compiled>>,
    bindings: BTreeMap<Box<str>, Arc<CompiledBinding>>,
}

impl Index {
    pub fn validating(&self) -> All {
        self.validating.all.load_full()
    }

    pub fn mutating(&self) -> All {
        self.mutating.all.load_full()
    }

    /// Follows policies and bindings until dropped.
    pub async fn run(&self, objects: Arc<dyn Objects>) {
        let watch = |plural| objects.watch(Resource::new(GROUP, plural));
        let synced = || watch::channel(false).0;
        let (validating, mutating) = (&self.validating, &self.mutating);
        tokio::join!(
            follow(watch("validatingadmissionpolicies"), PoliciesOf(validating), synced()),
            follow(watch("validatingadmissionpolicybindings"), BindingsOf(validating), synced()),
            follow(watch("mutatingadmissionpolicies"), PoliciesOf(mutating), synced()),
            follow(watch("mutatingadmissionpolicybindings"), BindingsOf(mutating), synced()),
        );
    }
}

impl Kind {
    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        change(&mut known);
        let bound = known.policies.iter().filter_map(|(name, policy)| {
            let of = |binding: &&Arc<CompiledBinding>| *binding.source.policy_name == **name;
            let bindings: Vec<_> = known.bindings.values().filter(of).cloned().collect();
            (!bindings.is_empty()).then(|| Bound { policy: policy.clone(), bindings })
        });
        self.all.store(Arc::new(bound.collect()));
    }
}

fn read<T: DeserializeOwned>(stored: &Stored) -> Option<T> {
    serde_json::from_slice(&stored.json)
        .inspect_err(
            |error| tracing::error!(%error, name = %stored.name, "an admission policy does not parse"),
        )
        .ok()
}

struct PoliciesOf<'k>(&'k Kind);

impl Follower for PoliciesOf<'_> {
    fn set(&self, stored: &Stored) {
        let Some(policy) = read::<Policy>(stored) else { return self.remove("", &stored.name) };
        let compiled = Arc::new(Compiled::new(&policy));
        self.0.change(|known| {
            known.policies.insert(stored.name.clone(), compiled);
        });
    }

    fn remove(&self, _: &str, name: &str) {
        self.0.change(|known| {
            known.policies.remove(name);
        });
    }
}

struct BindingsOf<'k>(&'k Kind);

impl Follower for BindingsOf<'_> {
    fn set(&self, stored: &Stored) {
        let Some(binding) = read::<Binding>(stored) else { return self.remove("", &stored.name) };
        let compiled = Arc::new(CompiledBinding::new(binding));
        self.0.change(|known| {
            known.bindings.insert(stored.name.clone(), compiled);
        });
    }

    fn remove(&self, _: &str, name: &str) {
        self.0.change(|known| {
            known.bindings.remove(name);
        });
    }
}
