//! API groups that other servers serve: an APIService with a service behind it takes its group and version over.
//!
//! ```text
//!   APIServices, Services, EndpointSlices ──► follow ──► one [`Remote`] each ──► check (every 30 s, and on change)
//!                                                             │                     └─► status condition Available
//!   requests for its group and version ──► proxy ─────────────┤
//!   discovery and OpenAPI documents ◄── what the remote says ─┘
//! ```

mod ask;
mod availability;
mod documents;
mod follow;
mod proxy;
mod remote;
mod resolve;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use knarr_api::time::{SharedClock, SharedRandom};
use rustls::client::ResolvesClientCert;

pub use remote::Remote;

use crate::loopback::Loopback;
use crate::objects::Objects;
use crate::stream::Streams;

/// The remotes of one moment, by their APIServices' names.
pub type Remotes = BTreeMap<String, Arc<Remote>>;

/// What the aggregator stands on.
pub struct Config {
    pub objects: Arc<dyn Objects>,
    pub streams: Streams,
    pub loopback: Loopback,
    /// The certificate with which this server vouches for users.
    pub client: Arc<dyn ResolvesClientCert>,
    pub clock: SharedClock,
    pub random: SharedRandom,
}

/// Knows who serves what, and hands requests over.
pub struct Aggregator {
    config: Config,
    remotes: ArcSwap<Remotes>,
}

impl Aggregator {
    pub fn new(config: Config) -> Self {
        Self { config, remotes: ArcSwap::default() }
    }

    /// Every remote there is.
    pub fn remotes(&self) -> arc_swap::Guard<Arc<Remotes>> {
        self.remotes.load()
    }

    /// Who serves the group and version, if that is not this server.
    pub fn remote(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        remotes.get(&format!("{version}.{group}")).cloned()
    }

    fn change(&self, change: impl Fn(&mut Remotes)) {
        self.remotes.rcu(|remotes| {
            let mut remotes = Remotes::clone(remotes);
            change(&mut remotes);
            remotes
        });
    }
}
