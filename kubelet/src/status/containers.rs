//! Container statuses: what was said before, corrected by what the runtime shows now. The rules are upstream's
//! `convertToAPIContainerStatuses`.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, Pod, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_runtime::cri::ContainerState as Cri;

use crate::pod::observed::{self, Observed, Seen};
use crate::pod::{restart, spec};

/// Why a container could not be started, by container name; kept by the pod's worker until it starts.
pub type StartFailures = HashMap<String, (&'static str, String)>;

/// What status computing needs beside the pod and its containers.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub pod: &'a Pod,
    /// The pod with what its running containers have been given.
    pub actuated: &'a Pod,
    pub observed: &'a Observed,
    pub failures: &'a StartFailures,
    /// Scheme of container ids.
    pub runtime_name: &'a str,
}

/// A runtime's nanoseconds as the API's time, which has whole seconds.
pub fn time(nanos: i64) -> Option<Time> {
    jiff::Timestamp::from_second(nanos.div_euclid(1_000_000_000)).ok().map(Time)
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            message: message.filter(|m| !m.is_empty()),
        }),
        ..ContainerState::default()
    }
}

fn terminated(state: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(state), ..ContainerState::default() }
}

fn is_terminated(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.terminated.is_some())
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

impl Context<'_> {
    /// Statuses of `containers`, one of the pod's three lists, in the list's order for init containers and by name
    /// otherwise.
    pub fn statuses(
        &self,
        containers: &[Container],
        previous: &[ContainerStatus],
        kind: spec::Kind,
    ) -> Vec<ContainerStatus> {
        let has_inits = !spec::init_containers(self.pod).is_empty();
        let placeholder = if has_inits { "PodInitializing" } else { "ContainerCreating" };
        let mut statuses: Vec<ContainerStatus> = containers
            .iter()
            .map(|container| {
                let old = previous.iter().find(|s| s.name == container.name);
                let mut status = default_status(container, old, placeholder);
                if self.observed.latest(&container.name).is_none() {
                    self.infer_lost(&mut status, old, placeholder);
                } else {
                    self.fill_seen(container, &mut status, old);
                }
                self.fill_start_failure(container, &mut status, kind);
                status
            })
            .collect();
        if kind != spec::Kind::Init {
            statuses.sort_by(|a, b| a.name.cmp(&b.name));
        }
        statuses
    }

    /// A container that ran and is gone from the runtime ended, though nobody knows how.
    fn infer_lost(&self, status: &mut ContainerStatus, old: Option<&ContainerStatus>, placeholder: &str) {
        let Some(old) = old.filter(|old| !is_terminated(old) && is_running(old)) else { return };
        let default_waiting = status
            .state
            .as_ref()
            .and_then(|s| s.waiting.as_ref())
            .is_some_and(|w| w.reason.as_deref() == Some(placeholder));
        let knows_last = old.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
        if !default_waiting || knows_last {
            return;
        }
        status.last_state = Some(terminated(ContainerStateTerminated {
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running"
                    .to_owned(),
            ),
            exit_code: 137,
            ..ContainerStateTerminated::default()
        }));
        if !spec::being_deleted(self.pod) {
            status.restart_count += 1;
        }
    }

    /// The newest container of the name is the state, the one before it the last state.
    fn fill_seen(&self, container: &Container, status: &mut ContainerStatus, old: Option<&ContainerStatus>) {
        let mut runs = self.observed.containers.iter().filter(|seen| seen.name == container.name);
        if let Some(newest) = runs.next() {
            *status = self.convert(container, newest, old, status.volume_mounts.take());
        }
        if let Some(before) = runs.next() {
            status.last_state = self.convert(container, before, old, None).state;
        }
    }

    fn convert(
        &self,
        container: &Container,
        seen: &Seen,
        old: Option<&ContainerStatus>,
        volume_mounts: Option<Vec<VolumeMountStatus>>,
    ) -> ContainerStatus {
        let id = format!("{}://{}", self.runtime_name, seen.id);
        let in_force = || spec::find_container(self.actuated, &container.name).and_then(|(_, c)| c.resources);
        let mut status = ContainerStatus {
            name: seen.name.clone(),
            restart_count: seen.restart_count,
            image: seen.image.clone(),
            image_id: seen.image_ref.clone(),
            container_id: Some(id.clone()),
            volume_mounts: old.and_then(|o| o.volume_mounts.clone()).or(volume_mounts),
            resources: if seen.running() { in_force() } else { container.resources.clone() },
            allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
            user: seen.user.as_ref().map(|user| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: user.uid,
                    gid: user.gid,
                    supplemental_groups: Some(user.supplemental_groups.clone()).filter(|g| !g.is_empty()),
                }),
            }),
            stop_signal: Some(seen.stop_signal.clone()).filter(|s| !s.is_empty()),
            ..ContainerStatus::default()
        };
        if let Some(old) = old {
            // Runs that were removed from the runtime live on in what we said about them.
            if old.container_id.as_deref() != Some(&id) && is_terminated(old) {
                status.last_state.clone_from(&old.state);
            } else if old.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
                status.last_state.clone_from(&old.last_state);
            }
            if seen.running() {
                status.started = old.started;
            }
        }
        status.state = Some(match seen.state {
            Cri::Running => ContainerState {
                running: Some(ContainerStateRunning { started_at: time(seen.started_at) }),
                ..ContainerState::default()
            },
            Cri::Exited => terminated(ContainerStateTerminated {
                exit_code: seen.exit_code,
                reason: Some(seen.reason.clone()).filter(|r| !r.is_empty()),
                message: Some(seen.message.clone()).filter(|m| !m.is_empty()),
                started_at: time(seen.started_at),
                finished_at: time(seen.finished_at),
                container_id: Some(id),
                signal: None,
            }),
            Cri::Unknown if old.is_some_and(is_running) => {
                status.restart_count = old.map_or(0, |o| o.restart_count) + 1;
                terminated(ContainerStateTerminated {
                    reason: Some("ContainerStatusUnknown".to_owned()),
                    message: Some(
                        "The container could not be located when the pod was terminated".to_owned(),
                    ),
                    exit_code: 137,
                    ..ContainerStateTerminated::default()
                })
            }
            Cri::Created | Cri::Unknown => waiting("", None),
        });
        status
    }

    /// A container that will be started (again) and whose last attempt failed waits, and says why.
    fn fill_start_failure(&self, container: &Container, status: &mut ContainerStatus, kind: spec::Kind) {
        let seen = self.observed.latest(&container.name);
        if kind == spec::Kind::Init {
            if seen.is_some_and(|s| s.state == Cri::Exited && s.exit_code == 0) {
                return;
            }
            let is_waiting = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
            if seen.is_none()
                && is_waiting
                && !spec::is_restartable_init(container)
                && observed::any_regular_created(self.pod, self.observed)
            {
                status.state = Some(terminated(ContainerStateTerminated {
                    reason: Some("Completed".to_owned()),
                    message: Some(
                        "Unable to get init container status from container runtime and pod has been initialized, \
                         treat it as exited normally"
                            .to_owned(),
                    ),
                    ..ContainerStateTerminated::default()
                }));
                return;
            }
        }
        if !restart::will_start(container, self.pod, self.observed) {
            return;
        }
        let Some((reason, message)) = self.failures.get(&container.name) else { return };
        if is_terminated(status) {
            status.last_state = status.state.take();
        }
        status.state = Some(waiting(reason, Some(message.clone())));
    }
}

fn default_status(
    container: &Container,
    old: Option<&ContainerStatus>,
    placeholder: &str,
) -> ContainerStatus {
    if let Some(old) = old.filter(|old| is_terminated(old)) {
        return old.clone();
    }
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(placeholder, None)),
        volume_mounts: mount_statuses(container),
        restart_count: old.map_or(0, |o| o.restart_count),
        last_state: old.and_then(|o| o.last_state.clone()),
        ..ContainerStatus::default()
    }
}

fn mount_statuses(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let read_only = mount.read_only.unwrap_or(false);
        // Recursive read-only is refused at start where it is required and impossible.
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|ro| *ro),
            recursive_read_only: read_only.then(|| recursive.to_owned()),
            ..VolumeMountStatus::default()
        }
    };
    Some(mounts.iter().map(status).collect())
}
