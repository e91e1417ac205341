//! Removing what is left of pods: of one that is gone, and of those nobody remembers.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use knarr_runtime::cri::{self, SandboxStatus};

use super::{sandbox, spec};
use crate::agent::Agent;
use crate::resources::cgroups;
use crate::volumes::{self, VolumeError, mounts};

/// Containers nobody knows get this long to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);

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

/// Ends and removes everything of pods that are not in `known`: the API (or the manifests) no longer have them.
pub async fn remove_orphans(
    agent: &Agent,
    known: &HashSet<String>,
    sandboxes: BTreeMap<String, Vec<SandboxStatus>>,
) {
    for (uid, found) in sandboxes.into_iter().filter(|(uid, _)| !known.contains(uid)) {
        tracing::info!(pod.uid = %uid, "removing a pod nobody knows");
        for sandbox in &found {
            if let Err(error) = end_orphan(agent, sandbox).await {
                tracing::warn!(pod.uid = %uid, sandbox = %sandbox.id, %error, "cannot remove orphaned sandbox");
            }
        }
        if let Err(error) = agent.volumes.tear_down(&uid).await {
            tracing::warn!(pod.uid = %uid, %error, "cannot take away volumes of an orphaned pod");
        }
    }
    remove_orphaned_cgroups(agent, known).await;
    if agent.config.host {
        let paths = orphaned_directories(agent, known);
        let uids: Vec<String> =
            paths.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
        match remove_directories(paths).await {
            Ok(()) => uids.iter().for_each(|uid| agent.users.release(uid)),
            Err(error) => tracing::warn!(%error, "cannot remove directories of orphaned pods"),
        }
    }
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

/// Pods' directories and log directories of pods nobody knows.
fn orphaned_directories(agent: &Agent, known: &HashSet<String>) -> Vec<PathBuf> {
    let children = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let last =
        |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let pods =
        children(&agent.config.root_dir.join("pods")).into_iter().filter(|path| !known.contains(&last(path)));
    let logs = children(&agent.config.pod_logs_dir).into_iter().filter(|path| {
        // <namespace>_<name>_<uid>
        last(path).rsplit('_').next().is_some_and(|uid| !known.contains(uid))
    });
    pods.chain(logs).collect()
}
