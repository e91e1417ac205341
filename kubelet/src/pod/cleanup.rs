//! Removing what is left of pods: of one that is gone, and of those nobody remembers.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use knarr_runtime::cri::{self, SandboxStatus};

use super::workers::Workers;
use super::{sandbox, spec};
use crate::agent::Agent;
use crate::resources::cgroups;
use crate::volumes::{self, VolumeError, mounts};

/// Containers nobody knows get this long to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);
/// Before what could not be removed is tried again, unless a driver comes that may help.
const ORPHAN_RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    #[error("{0}")]
    Runtime(#[from] cri::Error),
    #[error("{0}")]
    Sandbox(#[from] sandbox::SandboxError),
    #[error("{0}")]
    Files(#[from] VolumeError),
}

/// Removes containers, sandboxes, logs and the directory of a pod whose containers have ended.
pub async fn remove_traces(agent: &Agent, pod: &Pod, sandboxes: &[String]) -> Result<(), CleanupError> {
    for id in sandboxes {
        remove_sandbox(agent, id).await?;
    }
    agent.images.forget(spec::uid(pod));
    if agent.config.host {
        let (pod_dir, logs) = (agent.config.pod_dir(spec::uid(pod)), agent.pod_log_dir(pod));
        remove_directories(vec![pod_dir, logs]).await?;
    }
    agent.users.release(spec::uid(pod));
    Ok(())
}

async fn remove_sandbox(agent: &Agent, id: &str) -> Result<(), CleanupError> {
    for container in agent.runtime.list_containers(Some(id)).await? {
        ignore_missing(agent.runtime.remove_container(&container.id).await)?;
    }
    Ok(ignore_missing(agent.runtime.remove_sandbox(id).await)?)
}

fn ignore_missing(result: cri::Result<()>) -> cri::Result<()> {
    match result {
        Err(cri::Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

async fn remove_directories(paths: Vec<PathBuf>) -> Result<(), CleanupError> {
    let work = move || paths.iter().try_for_each(|path| mounts::remove_tree(path));
    Ok(volumes::blocking("remove pod directory", work).await?)
}

/// Sandboxes by the uid of their pod.
pub async fn sandboxes_by_pod(agent: &Agent) -> cri::Result<BTreeMap<String, Vec<SandboxStatus>>> {
    let mut map: BTreeMap<String, Vec<SandboxStatus>> = BTreeMap::new();
    for sandbox in agent.runtime.list_sandboxes().await? {
        map.entry(sandbox.metadata.uid.clone()).or_default().push(sandbox);
    }
    Ok(map)
}

/// Ends and removes everything of pods that have no worker: the API (or the manifests) no longer have them. Returns
/// when nothing is left, which may be long: a volume can only be taken away when its driver is there.
pub async fn remove_orphans(
    agent: &Agent,
    workers: &Workers,
    sandboxes: BTreeMap<String, Vec<SandboxStatus>>,
) {
    let known = workers.uids();
    for (uid, found) in sandboxes.into_iter().filter(|(uid, _)| !known.contains(uid)) {
        tracing::info!(pod.uid = %uid, "removing a pod nobody knows");
        for sandbox in &found {
            if let Err(error) = end_orphan(agent, sandbox).await {
                tracing::warn!(pod.uid = %uid, sandbox = %sandbox.id, %error, "cannot remove orphaned sandbox");
            }
        }
    }
    remove_orphaned_cgroups(agent, &known).await;
    if !agent.config.host {
        return;
    }
    if let Err(error) = remove_directories(orphaned_logs(agent, &known)).await {
        tracing::warn!(%error, "cannot remove logs of orphaned pods");
    }
    let mut drivers = agent.volumes.csi.drivers.follow();
    let mut orphans = orphaned_pods(agent, &known);
    loop {
        let known = workers.uids();
        orphans.retain(|uid| !known.contains(uid));
        let mut left = Vec::new();
        for uid in orphans {
            if let Err(error) = remove_orphaned_files(agent, &uid).await {
                tracing::warn!(pod.uid = %uid, %error, "cannot remove what an orphaned pod has left, will retry");
                left.push(uid);
            }
        }
        if left.is_empty() {
            return;
        }
        orphans = left;
        tokio::select! {
            Ok(()) = drivers.changed() => {}
            () = tokio::time::sleep(ORPHAN_RETRY) => {}
        }
    }
}

async fn remove_orphaned_files(agent: &Agent, uid: &str) -> Result<(), CleanupError> {
    agent.volumes.tear_down(uid).await?;
    remove_directories(vec![agent.config.pod_dir(uid)]).await?;
    agent.users.release(uid);
    Ok(())
}

async fn end_orphan(agent: &Agent, sandbox: &SandboxStatus) -> Result<(), CleanupError> {
    for container in agent.runtime.list_containers(Some(&sandbox.id)).await? {
        ignore_missing(agent.runtime.stop_container(&container.id, ORPHAN_GRACE).await)?;
    }
    sandbox::stop(agent, sandbox).await?;
    remove_sandbox(agent, &sandbox.id).await
}

async fn remove_orphaned_cgroups(agent: &Agent, known: &HashSet<String>) {
    use crate::status::qos::QosClass;
    for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
        let parent = cgroups::branch(&agent.config.cgroup_root, class);
        let Ok(found) = agent.runtime.list_pod_cgroups(&parent).await else { continue };
        for cgroup in found {
            if cgroups::uid_of(&cgroup).is_none_or(|uid| known.contains(uid)) {
                continue;
            }
            if let Err(error) = agent.runtime.remove_pod_cgroup(&cgroup).await {
                tracing::warn!(%cgroup, %error, "cannot remove orphaned pod cgroup");
            }
        }
    }
}

fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Uids of pods that have directories and that nobody knows.
fn orphaned_pods(agent: &Agent, known: &HashSet<String>) -> Vec<String> {
    let pods = directories(&agent.config.root_dir.join("pods"));
    pods.iter().map(|path| name_of(path)).filter(|uid| !known.contains(uid)).collect()
}

/// Log directories of pods nobody knows.
fn orphaned_logs(agent: &Agent, known: &HashSet<String>) -> Vec<PathBuf> {
    let mut logs = directories(&agent.config.pod_logs_dir);
    // <namespace>_<name>_<uid>
    logs.retain(|path| name_of(path).rsplit('_').next().is_some_and(|uid| !known.contains(uid)));
    logs
}
