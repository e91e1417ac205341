//! One container: its record, the phase it is in, and its shim.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::client::Client;
use super::error::{blocking_cri, failed};
use super::snapshot::Snapshot;
use super::spawn;
use super::state::{Inner, read_json};
use crate::cri::*;
use crate::image::Layer;
use crate::image::Lease;
use crate::shim::protocol::{self, Answer, Event, Exit, Op, ProcessId, ShimFile};

/// How long a killed container may take to go: longer means it hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(120);

/// `container.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: ContainerId,
    pub sandbox_id: SandboxId,
    pub pod_uid: String,
    pub config: ContainerConfig,
    pub created_at: UnixNanos,
    pub image_id: String,
    pub layers: Vec<Layer>,
    /// Mounted for image volumes.
    pub image_mounts: Vec<PathBuf>,
    /// Layers of those.
    pub image_mount_layers: Vec<Layer>,
    /// Below the cluster's prefix.
    pub cgroup: String,
    pub user: LinuxUser,
    pub stop_signal: String,
    pub log_path: PathBuf,
}

#[derive(Debug, Clone)]
pub enum Phase {
    Created,
    Running {
        pid: i32,
        started_at: UnixNanos,
    },
    Exited {
        started_at: UnixNanos,
        exit: Exit,
    },
    /// The shim and init are gone without a trace of how it ended.
    Unknown {
        started_at: UnixNanos,
    },
}

impl Phase {
    pub fn has_ended(&self) -> bool {
        matches!(self, Phase::Exited { .. } | Phase::Unknown { .. })
    }

    /// The phase when the shim says how it ended; `None` when that is known: a container that ends while its shim is
    /// asked for its state is told of twice.
    fn end(&self, exit: Exit) -> Option<Phase> {
        match *self {
            Phase::Running { started_at, .. } => Some(Phase::Exited { started_at, exit }),
            Phase::Created => Some(Phase::Exited { started_at: 0, exit }),
            Phase::Exited { .. } | Phase::Unknown { .. } => None,
        }
    }
}

pub struct Container {
    pub record: ContainerRecord,
    pub phase: watch::Sender<Phase>,
    client: Mutex<Option<Arc<Client>>>,
    /// Who waits for an exec's exit code.
    pub execs: Mutex<HashMap<String, oneshot::Sender<i32>>>,
    /// One of start and remove at a time; a stop waits for a start.
    pub turn: tokio::sync::Mutex<()>,
    /// Follows the shim's events.
    follower: Mutex<Option<tokio::task::JoinHandle<()>>>,
    _layers: Lease,
}

impl Container {
    pub fn new(inner: &Inner, record: ContainerRecord, phase: Phase) -> Self {
        let lease = inner.store.lease();
        lease
            .hold(record.layers.iter().chain(&record.image_mount_layers).map(|layer| layer.chain_id.clone()));
        Container {
            record,
            phase: watch::Sender::new(phase),
            client: Mutex::default(),
            execs: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            follower: Mutex::default(),
            _layers: lease,
        }
    }

    pub fn client(&self) -> Option<Arc<Client>> {
        self.client.lock().clone()
    }

    /// Stops following the shim, which goes on by itself.
    pub fn disconnect(&self) {
        if let Some(follower) = self.follower.lock().take() {
            follower.abort();
        }
        self.client.lock().take();
    }

    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Waits until the container has ended.
    pub async fn ended(&self) {
        let mut phases = self.phase.subscribe();
        // The sender lives as long as we do.
        let _ended = phases.wait_for(Phase::has_ended).await;
    }

    pub fn is_running(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Running { .. })
    }
}

impl Inner {
    /// Takes up a container that an earlier process made. One that was not made wholly is removed.
    pub async fn find_container(self: &Arc<Self>, directory: PathBuf) {
        let record: ContainerRecord = match read_json(&directory.join("container.json")) {
            Ok(record) => record,
            Err(error) => {
                tracing::info!(directory = %directory.display(), %error, "removing a half-made container");
                if let Err(error) =
                    Snapshot::new(&directory).unmount().and_then(|()| std::fs::remove_dir_all(&directory))
                {
                    tracing::warn!(directory = %directory.display(), %error, "cannot remove it");
                }
                return;
            }
        };
        let id = record.id.clone();
        let container = Arc::new(Container::new(self, record, Phase::Created));
        self.containers.write().insert(id, Arc::clone(&container));
        self.resume(&container).await;
    }

    /// Finds out what became of the container, and follows it on if it runs.
    pub async fn resume(self: &Arc<Self>, container: &Arc<Container>) {
        let directory = self.container_directory(&container.record.id);
        spawn::settled(&directory).await;
        let shim: Option<ShimFile> = protocol::read_file(&directory, protocol::SHIM_FILE);
        let started_at = shim.as_ref().map_or(0, |shim| shim.started_at);
        let alive = shim.as_ref().filter(|shim| shim.boot_id == self.boot_id && shim.shim.is_alive());
        if alive.is_some() {
            match self.connect(container).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(container = container.record.id, %error, "cannot reach the shim")
                }
            }
        }
        // Read when the shim is known to be away: while it lived it could still write it.
        let exit: Option<Exit> = protocol::read_file(&directory, protocol::EXIT_FILE);
        let phase = match (exit, shim) {
            (Some(exit), _) => Phase::Exited { started_at, exit },
            (None, Some(shim)) if shim.boot_id == self.boot_id => return self.adopt(container, &shim),
            (None, Some(_)) => Phase::Unknown { started_at },
            (None, None) => Phase::Created,
        };
        self.set_phase(container, phase);
    }

    /// The shim died and init may live: nobody will know its exit code, but it must not be started twice.
    fn adopt(self: &Arc<Self>, container: &Arc<Container>, shim: &ShimFile) {
        let started_at = shim.started_at;
        let Some(init) = shim.init.filter(|init| init.is_alive()) else {
            // What is left of it has nobody to serve it.
            if let Err(error) = self.cgroups.kill(&container.record.cgroup) {
                tracing::warn!(container = container.record.id, %error, "cannot kill an orphaned container");
            }
            return self.set_phase(container, Phase::Unknown { started_at });
        };
        tracing::warn!(container = container.record.id, "shim is gone, following its container without it");
        self.set_phase(container, Phase::Running { pid: init.pid, started_at });
        let (inner, followed) = (Arc::clone(self), Arc::clone(container));
        let follower = tokio::spawn(async move {
            if let Err(error) = wait_for_end(init).await {
                tracing::warn!(container = followed.record.id, %error, "cannot follow an orphaned container");
            }
            inner.set_phase(&followed, Phase::Unknown { started_at });
        });
        *container.follower.lock() = Some(follower);
    }

    /// Connects to the shim, learns the state, follows the events.
    pub async fn connect(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), super::client::Error> {
        let directory = self.container_directory(&container.record.id);
        let (client, events) = Client::connect(&directory).await?;
        let client = Arc::new(client);
        let (Answer::State(state), _) = client.call(Op::State, &[]).await? else {
            return Err(super::client::Error::Unexpected);
        };
        let started_at = state.started_at;
        let phase = match state.exit {
            Some(exit) => Phase::Exited { started_at, exit },
            None => Phase::Running { pid: state.pid, started_at },
        };
        for exec in state.execs {
            match exec.exit_code {
                Some(code) => self.exec_ended(container, &client, exec.exec, code).await,
                None => tracing::debug!(exec = exec.exec, "an exec of an earlier agent still runs"),
            }
        }
        *container.client.lock() = Some(client);
        self.set_phase(container, phase);
        let (inner, followed) = (Arc::clone(self), Arc::clone(container));
        *container.follower.lock() = Some(tokio::spawn(inner.follow(followed, events)));
        Ok(())
    }

    /// Boxed, since following may lead to connecting again.
    fn follow(
        self: Arc<Self>,
        container: Arc<Container>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Exited(exit) => {
                        if let Some(ended) = container.phase().end(exit) {
                            self.set_phase(&container, ended);
                        }
                    }
                    Event::ExecExited { exec, exit_code } => {
                        if let Some(client) = container.client() {
                            self.exec_ended(&container, &client, exec, exit_code).await;
                        }
                    }
                }
            }
            container.client.lock().take();
            // Nobody answers for execs any more.
            container.execs.lock().clear();
            if container.is_running() {
                self.resume(&container).await;
            }
        })
    }

    async fn exec_ended(&self, container: &Container, client: &Client, exec: String, exit_code: i32) {
        let waiting = container.execs.lock().remove(&exec);
        if let Some(waiting) = waiting {
            // Who asked may have hung up.
            let _unwanted = waiting.send(exit_code);
        }
        if let Err(error) = client.call(Op::DeleteExec { exec }, &[]).await {
            tracing::debug!(%error, "exec exit was not acknowledged");
        }
    }

    pub fn set_phase(&self, container: &Container, phase: Phase) {
        let ended = phase.has_ended();
        let before = container.phase.send_replace(phase);
        if ended && !before.has_ended() {
            self.announce(ContainerEventKind::Stopped, container);
        }
    }

    pub fn announce(&self, kind: ContainerEventKind, container: &Container) {
        self.events.announce(ContainerEvent {
            kind,
            sandbox_id: container.record.sandbox_id.clone(),
            container_id: container.record.id.clone(),
            pod_uid: container.record.pod_uid.clone(),
        });
    }

    /// Sends the stop signal, waits, kills. Not running or not there is fine.
    pub async fn stop_container(self: &Arc<Self>, id: &str, grace: Duration) -> Result<()> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        if matches!(*container.phase.borrow(), Phase::Created) {
            // It may be on its way to run, and would then run on.
            drop(container.turn.lock().await);
        }
        if !container.is_running() {
            return Ok(());
        }
        if !grace.is_zero() {
            let signal = signal_number(&container.record.stop_signal)?;
            self.signal(&container, signal, false).await?;
            if tokio::time::timeout(grace, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        self.signal(&container, libc::SIGKILL, true).await?;
        tokio::time::timeout(KILL_PATIENCE, container.ended())
            .await
            .map_err(|_| Error::Timeout { doing: format!("kill container {id}"), after: KILL_PATIENCE })
    }

    async fn signal(&self, container: &Container, signal: i32, all: bool) -> Result<()> {
        if let Some(client) = container.client() {
            match client.call(Op::Kill { signal, all }, &[]).await {
                Ok(_) => return Ok(()),
                // It died meanwhile: as below.
                Err(super::client::Error::Gone) => {}
                Err(error) => return Err(failed(format!("signal container {}", container.record.id))(error)),
            }
        }
        let Phase::Running { pid, .. } = container.phase() else { return Ok(()) };
        match crate::sys::pidfd_open(pid)
            .and_then(|pidfd| crate::sys::pidfd_signal(std::os::fd::AsFd::as_fd(&pidfd), signal))
        {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.map_err(failed(format!("signal container {}", container.record.id))),
        }
    }

    /// Removes the container, killing it first where it runs. Not there is fine.
    pub async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        self.stop_container(id, Duration::ZERO).await?;
        let _turn = container.turn.lock().await;
        self.dismiss_shim(&container).await?;
        let inner = Arc::clone(self);
        let doomed = Arc::clone(&container);
        blocking_cri("remove container", move || inner.erase(&doomed)).await?;
        if self.containers.write().remove(id).is_some() {
            self.announce(ContainerEventKind::Deleted, &container);
        }
        Ok(())
    }

    async fn dismiss_shim(&self, container: &Container) -> Result<()> {
        let client = match container.client() {
            Some(client) => Some(client),
            None => Client::connect(&self.container_directory(&container.record.id))
                .await
                .ok()
                .map(|(c, _)| Arc::new(c)),
        };
        if let Some(client) = client {
            client.dismiss().await.map_err(failed(format!("end the shim of {}", container.record.id)))?;
        }
        container.disconnect();
        Ok(())
    }

    fn erase(&self, container: &Container) -> Result<()> {
        let id = &container.record.id;
        let doing = || format!("remove container {id}");
        self.cgroups.remove(&container.record.cgroup).map_err(failed(doing()))?;
        let directory = self.container_directory(id);
        for mount in &container.record.image_mounts {
            super::snapshot::unmount(mount).map_err(failed(doing()))?;
        }
        Snapshot::new(&directory).unmount().map_err(failed(doing()))?;
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(doing())(error)),
            _ => Ok(()),
        }
    }

    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let Some(client) = container.client() else {
            return Err(Error::Invalid(format!("container {id} is not running")));
        };
        client.call(Op::ReopenLog, &[]).await.map_err(failed(format!("reopen the log of {id}")))?;
        Ok(())
    }

    pub async fn update_resources(&self, id: &str, resources: &Resources) -> Result<()> {
        let container = self.container(id)?;
        self.cgroups
            .apply(&container.record.cgroup, resources, false)
            .map_err(failed(format!("update resources of container {id}")))
    }

    pub fn status_of(&self, container: &Container, detailed: bool) -> ContainerStatus {
        let record = &container.record;
        let phase = container.phase();
        let (state, pid, started_at) = match &phase {
            Phase::Created => (ContainerState::Created, None, 0),
            Phase::Running { pid, started_at } => (ContainerState::Running, Some(*pid), *started_at),
            Phase::Exited { started_at, .. } => (ContainerState::Exited, None, *started_at),
            Phase::Unknown { started_at } => (ContainerState::Unknown, None, *started_at),
        };
        let (finished_at, exit_code, signal, reason, message) = ending(&phase);
        let limits = || self.cgroups.limits(&record.cgroup).ok();
        ContainerStatus {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            metadata: record.config.metadata.clone(),
            state,
            created_at: record.created_at,
            started_at,
            finished_at,
            exit_code,
            signal,
            reason,
            message,
            image: record.config.image.clone(),
            image_reference: record.config.image_reference.clone(),
            image_id: record.image_id.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            log_path: record.log_path.clone(),
            pid,
            resources: (detailed && state == ContainerState::Running).then(limits).flatten(),
            user: Some(record.user.clone()),
            stop_signal: record.stop_signal.clone(),
        }
    }
}

/// Finished at, exit code, signal, reason, message.
fn ending(phase: &Phase) -> (UnixNanos, i32, i32, String, String) {
    match phase {
        Phase::Created | Phase::Running { .. } => (0, 0, 0, String::new(), String::new()),
        Phase::Unknown { .. } => {
            let message = "The container could not be located when the runtime looked for it".to_owned();
            (0, 137, 0, "ContainerStatusUnknown".to_owned(), message)
        }
        Phase::Exited { exit, .. } => {
            let reason = match exit {
                Exit { start_error: Some(_), .. } => "StartError",
                Exit { oom_killed: true, .. } => "OOMKilled",
                Exit { exit_code: 0, .. } => "Completed",
                _ => "Error",
            };
            let message = exit.start_error.clone().unwrap_or_default();
            (exit.finished_at, exit.exit_code, exit.signal, reason.to_owned(), message)
        }
    }
}

async fn wait_for_end(init: ProcessId) -> std::io::Result<()> {
    let pidfd = crate::sys::pidfd_open(init.pid)?;
    // Between looking and opening it may have ended, and the pid be another's.
    if !init.is_alive() {
        return Ok(());
    }
    let pidfd = crate::sys::watch(pidfd, tokio::io::Interest::READABLE)?;
    pidfd.readable().await?.retain_ready();
    Ok(())
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
pub fn signal_number(name: &str) -> Result<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return Ok(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |base: i32, offset: &str| -> Option<i32> {
        let number = base + if offset.is_empty() { 0 } else { offset.parse().ok()? };
        (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number).then_some(number)
    };
    let number = if let Some(offset) = short.strip_prefix("RTMIN") {
        real_time(libc::SIGRTMIN(), offset)
    } else if let Some(offset) = short.strip_prefix("RTMAX") {
        real_time(libc::SIGRTMAX(), offset)
    } else {
        format!("SIG{short}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
    };
    number.ok_or_else(|| Error::Invalid(format!("unknown signal {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_told_twice_keeps_when_it_began() {
        let exit = Exit { exit_code: 3, signal: 0, finished_at: 20, oom_killed: false, start_error: None };
        let ended = Phase::Running { pid: 1, started_at: 10 }.end(exit.clone()).expect("news");
        assert!(matches!(ended, Phase::Exited { started_at: 10, .. }), "{ended:?}");
        assert!(ended.end(exit).is_none());
    }

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (name, number) in [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", libc::SIGRTMIN() + 3)] {
            assert_eq!(signal_number(name).expect("a signal"), number, "{name}");
        }
        assert!(signal_number("SIGNONE").is_err());
    }
}
