//! What every controller is given.

use std::sync::Arc;

use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::{
    Client, InformerFactory,
    events::{EventBroadcaster, EventRecorder},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::discovery::Resources;

/// Settings of the controllers, already checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which controllers run: `*` for all, `name`, `-name`, as upstream's `--controllers`.
    pub controllers: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { controllers: vec!["*".to_owned()] }
    }
}

impl Config {
    /// Whether a controller is to run.
    pub fn runs(&self, name: &str) -> bool {
        let is = |entry: &String| entry == name;
        let is_off = |entry: &String| entry.strip_prefix('-') == Some(name);
        self.controllers.iter().any(is)
            || (self.controllers.iter().any(|entry| entry == "*") && !self.controllers.iter().any(is_off))
    }
}

/// One controller's view of the world.
#[derive(Clone)]
pub struct Context {
    /// Acts as the controller's own service account.
    pub client: Client,
    /// Shared by all controllers.
    pub informers: InformerFactory,
    /// What the server has; empty until it was first asked.
    pub(crate) resources: watch::Receiver<Arc<Resources>>,
    pub events: EventBroadcaster,
    pub clock: SharedClock,
    pub random: SharedRandom,
    pub config: Arc<Config>,
    pub shutdown: CancellationToken,
}

impl Context {
    /// A recorder of Events that signs as `component`.
    pub fn recorder(&self, component: &str) -> EventRecorder {
        self.events.recorder(component, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_chosen_as_upstream_chooses() {
        let config =
            |list: &[&str]| Config { controllers: list.iter().map(|&entry| entry.to_owned()).collect() };
        assert!(config(&["*"]).runs("a"));
        assert!(!config(&["*", "-a"]).runs("a"));
        assert!(config(&["a"]).runs("a"));
        assert!(!config(&["b"]).runs("a"));
    }
}
