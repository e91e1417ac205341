//! Plugins that register themselves: each puts a socket into a directory of the agent, answers there who it is, and is
//! told whether it is taken. When its socket goes, so does the plugin.
//!
//! ```text
//!   socket appears ── GetInfo ──▶ validated ── handler registers it ──▶ told: registered ── socket goes ──▶ deregistered
//!         ▲                          └── refused, or no answer ──▶ told: why ── later ──┐
//!         └──────────────────────────────────────────────────────────────────────────────┘
//! ```

mod directory;
pub mod proto;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::directory::{Identity, Sockets};
use self::proto::{InfoRequest, RegistrationStatus, RegistrationStatusResponse};
use crate::grpc;

pub use self::proto::PluginInfo;

/// Below the agent's directory.
pub const DIRECTORY: &str = "plugins_registry";

const CALL_TIMEOUT: Duration = Duration::from_secs(1);
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// A socket that does not answer is asked again after this, doubling up to the other. The first attempt is often too
/// early: a socket is seen before its owner listens.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(122);
/// Before a directory that could not be watched is tried again.
const WATCH_RETRY: Duration = Duration::from_secs(5);

/// Takes plugins of one type. Errors are told to the plugin.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Whether a plugin like this could be taken.
    fn validate(&self, plugin: &PluginInfo) -> Result<(), String>;
    /// Takes the plugin, or leaves nothing of it behind; called again for a plugin that was not taken.
    async fn register(&self, plugin: &PluginInfo) -> Result<(), String>;
    /// The plugin is gone.
    async fn deregister(&self, plugin: &PluginInfo);
}

/// By the type that plugins say they are.
pub type Handlers = Arc<HashMap<&'static str, Arc<dyn Handler>>>;

/// Follows the directory until dropped. Plugins stay registered then: the next run of the agent finds them.
pub async fn run(directory: PathBuf, handlers: Handlers) {
    let mut known: HashMap<PathBuf, Plugin> = HashMap::new();
    loop {
        let sockets = match Sockets::watch(&directory) {
            Ok(sockets) => sockets,
            Err(error) => {
                tracing::warn!(directory = %directory.display(), %error, "cannot watch for plugins");
                tokio::time::sleep(WATCH_RETRY).await;
                continue;
            }
        };
        let gone: Vec<PathBuf> = known
            .iter()
            .filter(|(path, plugin)| sockets.found.get(*path) != Some(&plugin.identity))
            .map(|(path, _)| path.clone())
            .collect();
        // A plugin that comes back under its name must find the name free.
        for plugin in gone.iter().filter_map(|path| known.remove(path)) {
            plugin.end().await;
        }
        for (path, identity) in &sockets.found {
            known.entry(path.clone()).or_insert_with(|| Plugin::new(path, *identity, &handlers));
        }
        if let Err(error) = sockets.changed().await {
            tracing::warn!(directory = %directory.display(), %error, "cannot follow plugins");
            tokio::time::sleep(WATCH_RETRY).await;
        }
    }
}

/// One socket, looked after by a task.
struct Plugin {
    identity: Identity,
    gone: CancellationToken,
    task: Owned,
}

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Plugin {
    fn new(socket: &Path, identity: Identity, handlers: &Handlers) -> Self {
        let gone = CancellationToken::new();
        let task = look_after(socket.to_owned(), Arc::clone(handlers), gone.clone());
        Self { identity, gone, task: Owned(tokio::spawn(task)) }
    }

    async fn end(mut self) {
        self.gone.cancel();
        if let Err(error) = (&mut self.task.0).await {
            tracing::error!(%error, "the task of a plugin ended early");
        }
    }
}

/// Registers the plugin, waits for its end, and takes it off again.
async fn look_after(socket: PathBuf, handlers: Handlers, gone: CancellationToken) {
    let mut delay = FIRST_RETRY;
    let (handler, plugin) = loop {
        match register(&socket, &handlers, &gone).await {
            Ok(Some(registered)) => break registered,
            Ok(None) => return,
            Err(error) => tracing::warn!(socket = %socket.display(), %error, "cannot register a plugin"),
        }
        if gone.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
            return;
        }
        delay = (delay * 2).min(LAST_RETRY);
    };
    gone.cancelled().await;
    handler.deregister(&plugin).await;
}

type Registered = (Arc<dyn Handler>, PluginInfo);

/// `None` when the plugin went meanwhile.
async fn register(
    socket: &Path,
    handlers: &Handlers,
    gone: &CancellationToken,
) -> Result<Option<Registered>, String> {
    let shown = socket.display();
    let asking = proto::call(socket, "GetInfo", &InfoRequest {}, CALL_TIMEOUT);
    let Some(answer) = gone.run_until_cancelled(asking).await else { return Ok(None) };
    let mut plugin: PluginInfo = answer.map_err(|error| {
        format!("RegisterPlugin error -- failed to get plugin info using RPC GetInfo at socket {shown}, err: {error}")
    })?;
    let Some(handler) = handlers.get(plugin.kind.as_str()).map(Arc::clone) else {
        let why = format!(
            "RegisterPlugin error -- no handler registered for plugin type: {} at socket {shown}",
            plugin.kind
        );
        return refuse(socket, why).await;
    };
    if plugin.endpoint.is_empty() {
        plugin.endpoint = socket.to_string_lossy().into_owned();
    }
    if let Err(error) = handler.validate(&plugin) {
        let why = format!("RegisterPlugin error -- plugin validation failed with err: {error}");
        return refuse(socket, why).await;
    }
    // Runs to its end also when the plugin goes meanwhile: half a registration would have to be undone here.
    if let Err(error) = handler.register(&plugin).await {
        return refuse(
            socket,
            format!("RegisterPlugin error -- plugin registration failed with err: {error}"),
        )
        .await;
    }
    let told = notify(socket, RegistrationStatus { plugin_registered: true, error: String::new() }).await;
    if let Err(error) = told {
        handler.deregister(&plugin).await;
        return Err(format!(
            "RegisterPlugin error -- failed to send registration status at socket {shown}, err: {error}"
        ));
    }
    Ok(Some((handler, plugin)))
}

/// Tells the plugin why it is not taken; answers the same.
async fn refuse<T>(socket: &Path, why: String) -> Result<T, String> {
    match notify(socket, RegistrationStatus { plugin_registered: false, error: why.clone() }).await {
        Ok(_) => Err(why),
        Err(error) => Err(format!("{why}: {error}")),
    }
}

async fn notify(
    socket: &Path,
    status: RegistrationStatus,
) -> Result<RegistrationStatusResponse, grpc::Status> {
    proto::call(socket, "NotifyRegistrationStatus", &status, NOTIFY_TIMEOUT).await
}
