//! The configurations there are, parsed once, in the order of their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;

use super::configuration::Hook;
use crate::authz::{Index, follow};
use crate::objects::{Objects, Resource, Stored};

const GROUP: &str = "admissionregistration.k8s.io";

type List = Arc<Vec<Arc<Hook>>>;

/// All hooks. Requests read a list that never changes; a change makes a new one.
#[derive(Default)]
pub struct Hooks {
    mutating: Kind,
    validating: Kind,
}

#[derive(Default)]
struct Kind {
    by_name: Mutex<BTreeMap<Box<str>, Vec<Arc<Hook>>>>,
    all: ArcSwap<Vec<Arc<Hook>>>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    webhooks: Vec<Hook>,
}

impl Hooks {
    pub fn mutating(&self) -> List {
        self.mutating.all.load_full()
    }

    pub fn validating(&self) -> List {
        self.validating.all.load_full()
    }

    /// Follows the configurations until dropped.
    pub async fn run(&self, objects: Arc<dyn Objects>) {
        let watch = |plural| objects.watch(Resource::new(GROUP, plural));
        tokio::join!(
            follow(watch("mutatingwebhookconfigurations"), &self.mutating, watch::channel(false).0),
            follow(watch("validatingwebhookconfigurations"), &self.validating, watch::channel(false).0),
        );
    }
}

impl Kind {
    fn change(&self, change: impl FnOnce(&mut BTreeMap<Box<str>, Vec<Arc<Hook>>>)) {
        let mut by_name = self.by_name.lock();
        change(&mut by_name);
        self.all.store(Arc::new(by_name.values().flatten().cloned().collect()));
    }
}

impl Index for &Kind {
    fn set(&self, stored: &Stored) {
        let hooks = match serde_json::from_slice::<Configuration>(&stored.json) {
            Ok(configuration) => configuration
                .webhooks
                .into_iter()
                .map(|mut hook| {
                    hook.compile(&stored.name);
                    Arc::new(hook)
                })
                .collect(),
            Err(error) => {
                tracing::error!(%error, name = %stored.name, "webhook configuration does not parse");
                Vec::new()
            }
        };
        self.change(|by_name| {
            by_name.insert(stored.name.clone(), hooks);
        });
    }

    fn remove(&self, _: &str, name: &str) {
        self.change(|by_name| {
            by_name.remove(name);
        });
    }
}
