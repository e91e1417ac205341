//! The node's HTTPS server: what the API server (and monitoring) asks of a node.

pub mod auth;
pub mod container_logs;
pub mod exec;
pub mod info;
pub mod listen;
pub mod metrics;
pub mod node_logs;
pub mod port_forward;
pub mod router;
pub mod spdy;
pub mod streams;
pub mod summary;
pub mod upgrade;
pub mod websocket;

use std::sync::Arc;

pub use listen::{Bound, ServerError, bind};

use crate::agent::Agent;
use crate::pod::worker::Inbox;
use crate::pod::workers::Workers;

/// What handlers work on.
#[derive(Clone)]
pub struct State {
    pub agent: Arc<Agent>,
    pub workers: Workers,
}

impl State {
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Inbox>> {
        self.workers.find(namespace, name)
    }
}
