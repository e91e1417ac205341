//! `knarr server`: all components in one process, in the order in which they need each other.
//!
//! ```text
//!   store ─► API server ─► bootstrap objects ─► controllers, scheduler ─► node: runtime, network, kubelet, proxy, DNS
//!                                                                              └─► control socket ─► Ready
//!   stop: the same, backwards
//! ```

pub mod agent;
mod audit;
mod audit_webhook;
mod authentication;
mod backend;
mod control_plane;
mod destroy;
mod facts;
mod hello;
pub mod machine;
mod manifests;
mod node;
mod own_node;
mod range;
mod ready;
mod scheduler;
mod settings;
mod sim_nodes;
pub mod store;
mod tasks;
mod tokens;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub use agent::TOKEN_VARIABLE;
pub use destroy::destroy;

use crate::cli;
use crate::cluster::{Cluster, Lock, Registry};
use settings::Settings;
use tasks::Tasks;

pub fn run(args: cli::Server) -> anyhow::Result<ExitCode> {
    if args.background {
        leave_terminal()?;
    }
    log_to_stderr()?;
    let cluster = {
        let mut registry = Registry::open()?;
        Cluster::resolve(&mut registry, &args.place)?
    };
    let scheduler = scheduler::config(args.extras.scheduler_config.as_deref())?;
    let lock = Lock::take(&cluster.data_dir)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads")?;
    let outcome = runtime.block_on(serve(cluster, scheduler, &args));
    if args.background
        && let Err(error) = &outcome
    {
        announce(&format!("{error:#}"));
    }
    drop(lock);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Takes a session of its own: closing the terminal that ran `knarr up` must not end the cluster.
fn leave_terminal() -> anyhow::Result<()> {
    nix::unistd::setsid().context("leaving the terminal's session").map(drop)
}

/// The netlink library warns of every refusal of the kernel, also of those that are expected: a link that has gone
/// with its namespace. What matters comes back as an error and is told by whoever asked.
const LOGGED: &str = "info,nlink=error";

fn log_to_stderr() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("KNARR_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}

/// Tells the waiting `knarr up` in one line how it went.
fn announce(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be waiting any more, and then nobody has to be told.
    let _gone = writeln!(out, "{}", line.replace('\n', " ")).and_then(|()| out.flush());
}

async fn serve(
    cluster: Cluster,
    scheduler: knarr_scheduler::Config,
    args: &cli::Server,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let settings = Arc::new(Settings::of(cluster, args.extras.api_server.clone())?);
    let mut tasks = Tasks::default();
    let started = start(&settings, scheduler, &mut tasks, args);
    let outcome = tokio::select! {
        outcome = started => outcome,
        _ = terminate.recv() => Ok(Stop::Asked),
        _ = interrupt.recv() => Ok(Stop::Asked),
    };
    let outcome = match outcome {
        Ok(Stop::Started) => {
            tokio::select! {
                _ = terminate.recv() => Ok(()),
                _ = interrupt.recv() => Ok(()),
                failure = tasks.failed() => Err(failure),
            }
        }
        Ok(Stop::Asked) => Ok(()),
        Err(error) => Err(error),
    };
    tracing::info!("stopping");
    tasks.stop().await;
    tracing::info!("stopped");
    outcome
}

enum Stop {
    /// Everything runs.
    Started,
    /// A signal came while starting.
    Asked,
}

async fn start(
    settings: &Arc<Settings>,
    scheduler: knarr_scheduler::Config,
    tasks: &mut Tasks,
    args: &cli::Server,
) -> anyhow::Result<Stop> {
    let began = tokio::time::Instant::now();
    let control_plane = Arc::new(control_plane::start(settings, scheduler, tasks).await?);
    let node = own_node::start(&settings.node()?, &control_plane, tasks).await?;
    backend::start(settings, &control_plane, &node, tasks)?;
    ready::wait(&control_plane.admin(), &settings.node_name).await?;
    tracing::info!(seconds = began.elapsed().as_secs_f64(), "node is ready");
    sim_nodes::start(&control_plane, args.extras.sim_nodes, tasks).await?;
    if args.background {
        announce("ready");
    }
    Ok(Stop::Started)
}
