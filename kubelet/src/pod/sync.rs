//! One sync of one living pod: look, say how it is, and do what is missing. The steps and their order are upstream's
//! `SyncPod`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_runtime::cri::{self, ContainerState};

use super::actions::{self, Actions};
use super::kill::{self, How};
use super::observed::{Observed, Seen};
use super::start::Starter;
use super::worker::{Next, Worker};
use super::{container, restart, sandbox, spec};
use crate::images::secrets;
use crate::resources::cgroups;
use crate::volumes::manager::SetUpError;

/// Failed syncs are tried again after this, doubling up to the other.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(122);
/// How long a pod waits for its volumes to be attached before it says so.
const ATTACH_PATIENCE: SignedDuration = SignedDuration::from_secs(123);

impl Worker {
    /// Syncs the pod once.
    pub(super) async fn sync(&mut self, pod: &std::sync::Arc<Pod>) -> Next {
        let observed = match self.observe().await {
            Ok(observed) => observed,
            Err(error) => return self.retry(pod, &error),
        };
        self.follow_resize(pod, &observed);
        let status = self.generate(pod, &observed, false);
        let phase = status.phase.clone();
        let running = observed.running().next().is_some();
        self.agent.status.set(pod, status, running);
        self.agent.probes_follow(pod);
        if spec::is_terminal_phase(phase.as_deref()) {
            return Next::Terminate;
        }
        if let Some(next) = self.deadline(pod) {
            return next;
        }
        if let Err(next) = self.prepare(pod).await {
            return next;
        }
        let allocatable = &self.agent.allocatable;
        let volumes = match self.agent.volumes.set_up(pod, allocatable).await {
            Ok(volumes) => volumes,
            Err(errors) => return self.without_volumes(pod, &errors),
        };
        self.unattached_since = None;
        self.agent.probes.add_pod(pod);
        if restart::all_are_to_restart(pod, &observed) {
            return match self.restart_all(pod, &observed).await {
                Ok(()) => Next::Again,
                Err(error) => self.retry(pod, &error),
            };
        }
        let actuated = self.agent.allocations.actuated(spec::uid(pod));
        let actions = actions::compute(pod, &observed, &self.agent.probes.results, &actuated);
        if actions.is_empty() {
            self.failures.clear();
            self.failed_syncs = 0;
            return self.idle(pod, None);
        }
        match self.act(pod, &observed, &actions, &volumes).await {
            Ok(Done::Changed) => Next::Again,
            Ok(Done::Waiting(until)) => {
                self.publish(pod).await;
                self.idle(pod, until)
            }
            Err(error) => {
                self.publish(pod).await;
                self.retry(pod, &*error)
            }
        }
    }

    /// Says why, and tries again. A volume that is being attached is worth no word unless it takes long.
    fn without_volumes(&mut self, pod: &Pod, errors: &[SetUpError]) -> Next {
        for error in errors.iter().filter(|error| !error.waits()) {
            self.agent.recorder.warning(spec::reference(pod), "FailedMount", error.to_string());
        }
        let now = self.agent.now();
        let names = |all: bool| -> Vec<&str> {
            errors.iter().filter(|error| all || error.waits()).map(|error| error.name.as_str()).collect()
        };
        let unattached = names(false).join(" ");
        if unattached.is_empty() {
            self.unattached_since = None;
        } else if now.duration_since(*self.unattached_since.get_or_insert(now)) >= ATTACH_PATIENCE {
            let unmounted = names(true).join(" ");
            let message = format!(
                "Unable to attach or mount volumes: unmounted volumes=[{unmounted}], unattached \
                 volumes=[{unattached}], failed to process volumes=[]: context deadline exceeded"
            );
            self.agent.recorder.warning(spec::reference(pod), "FailedMount", message);
            self.unattached_since = Some(now);
        }
        self.retry_after_failure()
    }

    /// Tells the status after work was done that did not change it all.
    pub(super) async fn publish(&mut self, pod: &std::sync::Arc<Pod>) {
        match self.observe().await {
            Ok(observed) => {
                let status = self.generate(pod, &observed, false);
                let running = observed.running().next().is_some();
                self.agent.status.set(pod, status, running);
                self.agent.probes_follow(pod);
            }
            Err(error) => tracing::warn!(pod = spec::name(pod), %error, "cannot look at the pod"),
        }
    }

    /// Cgroup, directories and watches, before anything of the pod starts.
    async fn prepare(&mut self, pod: &Pod) -> Result<(), Next> {
        self.agent.objects.register(pod);
        if self.prepared {
            return Ok(());
        }
        self.agent.weigh_burstable(self.agent.burstable.add(pod)).await;
        let cgroup = cgroups::of_pod(&self.agent.config.cgroup_root, pod);
        let resources = cgroups::pod_resources(&self.agent.config, pod);
        if let Err(error) = self.agent.runtime.apply_pod_cgroup(&cgroup, &resources).await {
            let message = format!("unable to ensure pod container exists: {error}");
            self.agent.recorder.warning(spec::reference(pod), "FailedCreatePodContainer", message);
            return Err(self.retry_after_failure());
        }
        if self.agent.config.host
            && let Err(error) = self.make_directories(pod)
        {
            let message = format!("error making pod data directories: {error}");
            self.agent.recorder.warning(spec::reference(pod), "Failed", message);
            return Err(self.retry_after_failure());
        }
        self.prepared = true;
        Ok(())
    }

    fn make_directories(&self, pod: &Pod) -> std::io::Result<()> {
        let pod_dir = self.agent.config.pod_dir(spec::uid(pod));
        for dir in [pod_dir.join("volumes"), pod_dir.join("plugins"), pod_dir.join("containers")] {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        }
        let logs = self.agent.pod_log_dir(pod);
        let names = spec::containers(pod).iter().chain(spec::init_containers(pod)).map(|c| c.name.as_str());
        for name in names.chain(spec::ephemeral_containers(pod).iter().map(|c| c.name.as_str())) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(logs.join(name))?;
        }
        Ok(())
    }

    async fn act(
        &mut self,
        pod: &std::sync::Arc<Pod>,
        observed: &Observed,
        actions: &Actions,
        volumes: &crate::volumes::manager::MountedVolumes,
    ) -> Result<Done, Box<dyn std::error::Error + Send + Sync>> {
        let agent = std::sync::Arc::clone(&self.agent);
        if actions.create_sandbox && actions.sandbox_id.is_some() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            agent.recorder.normal(spec::reference(pod), "SandboxChanged", message);
        }
        // A pod that is to end while containers of it are being ended has no more time than it then gets.
        let mut shorter = self.inbox.grace();
        let grace = *shorter.borrow_and_update();
        if actions.kill_pod {
            let alive = observed.ready_sandbox().is_some() || observed.running().next().is_some();
            kill::pod(&agent, pod, observed, grace, Some(&shorter)).await?;
            if !actions.create_sandbox {
                // What is dead already does not change by being killed again.
                return Ok(if alive { Done::Changed } else { Done::Waiting(None) });
            }
            self.purge_init_containers(pod, observed).await?;
        } else {
            for wanted in &actions.to_kill {
                let Some(seen) = observed.containers.iter().find(|c| c.id == wanted.id) else { continue };
                let how = How {
                    message: &wanted.message,
                    reason: wanted.reason,
                    grace,
                    ordering: None,
                    shorter: Some(&shorter),
                };
                kill::container(&agent, pod, observed, seen, how).await?;
            }
        }
        if self.inbox.terminating() {
            return Ok(Done::Changed);
        }
        self.prune_init_containers(pod, observed).await?;
        let (found, ips) = if actions.create_sandbox {
            self.create_sandbox(pod, actions.attempt).await?
        } else {
            let Some(found) = observed.ready_sandbox() else { return Ok(Done::Changed) };
            (found.clone(), observed.ips.clone())
        };
        let credentials = secrets::credentials(&agent, pod).await;
        let observed = &if actions.kill_pod || !actions.to_kill.is_empty() || actions.create_sandbox {
            self.observe().await?
        } else {
            observed.clone()
        };
        let cancelled = self.inbox.terminate.clone();
        let starter = Starter {
            agent: &agent,
            pod,
            sandbox: &found,
            ips: &ips,
            observed,
            volumes,
            credentials: &credentials,
            cancelled: &cancelled,
            volume_images: Default::default(),
        };
        let resized = self.resize(pod, actions).await;
        let done = self.start_all(&starter, actions).await;
        self.prune_dead_containers(pod).await?;
        Ok(if resized? { Done::Changed } else { done })
    }

    /// Keeps so many dead runs of each container, for their logs and last states.
    async fn prune_dead_containers(&mut self, pod: &Pod) -> cri::Result<()> {
        let observed = self.observe().await?;
        let keep = self.agent.config.max_per_pod_container_count;
        let mut dead: HashMap<&str, usize> = HashMap::new();
        for seen in observed.containers.iter().filter(|c| c.state == ContainerState::Exited) {
            let count = dead.entry(&seen.name).or_default();
            *count += 1;
            if *count > keep {
                self.agent.runtime.remove_container(&seen.id).await?;
                self.remove_logs(pod, seen);
            }
        }
        Ok(())
    }

    /// The log of a run that is removed, with its rotated files.
    fn remove_logs(&self, pod: &Pod, seen: &Seen) {
        if !self.agent.config.host {
            return;
        }
        let attempt = u32::try_from(seen.restart_count).unwrap_or(0);
        let path = self.agent.pod_log_dir(pod).join(container::log_path(&seen.name, attempt));
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let of_run = entry.file_name().to_string_lossy().starts_with(&*name.to_string_lossy());
            if of_run && let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "cannot remove a container's log");
            }
        }
    }

    async fn create_sandbox(
        &mut self,
        pod: &std::sync::Arc<Pod>,
        attempt: u32,
    ) -> Result<(cri::SandboxStatus, Vec<std::net::IpAddr>), sandbox::SandboxError> {
        match sandbox::create(&self.agent, pod, attempt).await {
            Ok((found, ips)) => {
                self.sandboxes.push(found.id.clone());
                // PodReadyToStartContainers, before images are pulled.
                self.publish(pod).await;
                Ok((found, ips))
            }
            Err(error) => {
                if !self.inbox.terminating() {
                    let message = format!("Failed to create pod sandbox: {error}");
                    self.agent.recorder.warning(spec::reference(pod), "FailedCreatePodSandBox", message);
                }
                Err(error)
            }
        }
    }

    async fn start_all(&mut self, starter: &Starter<'_>, actions: &Actions) -> Done {
        let pod = starter.pod;
        let (mut changed, mut until) = (false, None);
        let mut note = |outcome: Attempt| match outcome {
            Attempt::Started => changed = true,
            Attempt::Waits(at) => until = until.into_iter().chain(at).min(),
        };
        for index in &actions.ephemeral_to_start {
            let Some(ephemeral) = spec::ephemeral_containers(pod).get(*index) else { continue };
            let target = ephemeral.target_container_name.as_deref().filter(|name| !name.is_empty());
            note(self.start_one(starter, &spec::as_container(ephemeral), target).await);
        }
        for index in &actions.init_to_start {
            let Some(container) = spec::init_containers(pod).get(*index) else { continue };
            let outcome = self.start_one(starter, container, None).await;
            let stuck = !matches!(outcome, Attempt::Started) && !spec::is_restartable_init(container);
            note(outcome);
            if stuck {
                break;
            }
        }
        for index in &actions.to_start {
            if let Some(container) = spec::containers(pod).get(*index) {
                note(self.start_one(starter, container, None).await);
            }
        }
        if changed { Done::Changed } else { Done::Waiting(until) }
    }

    async fn start_one(
        &mut self,
        starter: &Starter<'_>,
        container: &Container,
        target: Option<&str>,
    ) -> Attempt {
        if self.inbox.terminating() {
            return Attempt::Waits(None);
        }
        let waits = self.showing_pull_error(container).or_else(|| self.crash_loop(starter, container));
        if let Some(until) = waits {
            return Attempt::Waits(Some(until));
        }
        match starter.start(container, target).await {
            Ok(()) => {
                self.failures.remove(&container.name);
                self.pull_errors.remove(&container.name);
                Attempt::Started
            }
            Err(error) => {
                tracing::debug!(pod = spec::name(starter.pod), container = container.name, %error, "start failed");
                Attempt::Waits(Some(self.note_failure(container, error)))
            }
        }
    }

    /// With a new sandbox init containers start anew: the old ones go.
    async fn purge_init_containers(&self, pod: &Pod, observed: &Observed) -> cri::Result<()> {
        for container in spec::init_containers(pod) {
            for seen in observed.containers.iter().filter(|c| c.name == container.name) {
                self.agent.runtime.remove_container(&seen.id).await?;
            }
        }
        Ok(())
    }

    /// Keeps only the newest run of each init container.
    async fn prune_init_containers(&self, pod: &Pod, observed: &Observed) -> cri::Result<()> {
        for container in spec::init_containers(pod) {
            let dead = observed.containers.iter().filter(|c| {
                c.name == container.name
                    && matches!(c.state, ContainerState::Exited | ContainerState::Unknown)
            });
            for seen in dead.skip(1) {
                self.agent.runtime.remove_container(&seen.id).await?;
            }
        }
        Ok(())
    }

    /// Past activeDeadlineSeconds the pod fails.
    fn deadline(&mut self, pod: &Pod) -> Option<Next> {
        let at = self.deadline_at(pod)?;
        if self.agent.now() < at {
            return None;
        }
        let message = "Pod was active on the node longer than the specified deadline";
        self.agent.recorder.normal(spec::reference(pod), "DeadlineExceeded", message);
        self.verdict = Some(crate::status::generate::Verdict {
            phase: "Failed",
            reason: "DeadlineExceeded".to_owned(),
            message: message.to_owned(),
            disruption: false,
        });
        Some(Next::Terminate)
    }

    fn deadline_at(&self, pod: &Pod) -> Option<Timestamp> {
        let seconds = spec::spec(pod).active_deadline_seconds?;
        let start = self.agent.status.with(spec::uid(pod), |status| status.start_time.clone()).flatten()?;
        start.0.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Nothing to do until something happens, or until the earliest of what is known to come.
    fn idle(&self, pod: &Pod, until: Option<Timestamp>) -> Next {
        let renewal = self.agent.volumes.next_renewal(spec::uid(pod));
        match until.into_iter().chain(renewal).chain(self.deadline_at(pod)).min() {
            Some(at) => Next::At(at),
            None => Next::Idle,
        }
    }

    fn retry(&mut self, pod: &Pod, error: &(dyn std::error::Error + Send + Sync)) -> Next {
        tracing::warn!(pod = %spec::display(pod), %error, "error syncing pod, skipping");
        self.retry_after_failure()
    }

    pub(super) fn retry_after_failure(&mut self) -> Next {
        let delay = FIRST_RETRY.saturating_mul(1 << self.failed_syncs.min(8)).min(LAST_RETRY);
        self.failed_syncs += 1;
        let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
        Next::At(self.agent.now().checked_add(delay).unwrap_or(Timestamp::MAX))
    }
}

enum Done {
    /// The world is another now: look again at once.
    Changed,
    Waiting(Option<Timestamp>),
}

enum Attempt {
    Started,
    Waits(Option<Timestamp>),
}
