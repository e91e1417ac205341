//! Log files do not grow without end: a file over the limit is renamed, the runtime opens a new one, and the oldest
//! go.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use knarr_runtime::cri::{ContainerState, ContainerStatus};

use crate::agent::Agent;
use crate::pod::observed::{POD_NAME, POD_NAMESPACE, POD_UID};

/// How often sizes are looked at: upstream's `containerLogMonitorInterval`.
const PERIOD: Duration = Duration::from_secs(10);

/// Rotates for ever.
pub async fn run(agent: Arc<Agent>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        match agent.runtime.list_containers(None).await {
            Ok(containers) => {
                for container in containers.iter().filter(|c| c.state == ContainerState::Running) {
                    if let Err(error) = rotate_if_large(&agent, container).await {
                        tracing::warn!(container = %container.id, %error, "failed to rotate log for container");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "failed to rotate container logs"),
        }
    }
}

/// The file a container writes to.
pub fn path_of(agent: &Agent, container: &ContainerStatus) -> PathBuf {
    if container.log_path.is_absolute() {
        return container.log_path.clone();
    }
    let label = |key: &str| container.labels.get(key).map(String::as_str).unwrap_or_default();
    let directory = agent.config.pod_log_dir(label(POD_NAMESPACE), label(POD_NAME), label(POD_UID));
    directory.join(&container.log_path)
}

async fn rotate_if_large(
    agent: &Agent,
    container: &ContainerStatus,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let path = path_of(agent, container);
    let size = match fs::metadata(&path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // An interrupted rotation: the file was renamed and none opened.
            return Ok(agent.runtime.reopen_container_log(&container.id).await?);
        }
        Err(error) => return Err(error.into()),
    };
    if size < agent.config.container_log_max_size {
        return Ok(());
    }
    remove_oldest(&path, agent.config.container_log_max_files)?;
    let rotated = rotated_name(&path, agent.now());
    fs::rename(&path, &rotated)?;
    if let Err(error) = agent.runtime.reopen_container_log(&container.id).await {
        // The container goes on writing to the renamed file: give it its name back.
        fs::rename(&rotated, &path)?;
        return Err(error.into());
    }
    Ok(())
}

/// `0.log.20261122-140000`.
fn rotated_name(path: &Path, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(now.strftime(".%Y%m%d-%H%M%S").to_string());
    PathBuf::from(name)
}

/// Makes room for one more: the file being written and the rotated ones together are at most `max`.
fn remove_oldest(path: &Path, max: usize) -> std::io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut rotated: Vec<PathBuf> = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect();
    rotated.sort();
    let keep = max.saturating_sub(2);
    let surplus = rotated.len().saturating_sub(keep);
    rotated.iter().take(surplus).try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_files_are_kept() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("0.log");
        for name in
            ["0.log", "0.log.20260101-000000", "0.log.20260102-000000", "0.log.20260103-000000", "1.log"]
        {
            fs::write(dir.path().join(name), "x").expect("written");
        }
        remove_oldest(&path, 3).expect("removable");
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .expect("readable")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["0.log", "0.log.20260103-000000", "1.log"]);
        let at = Timestamp::from_second(0).expect("in range");
        assert!(rotated_name(&path, at).ends_with("0.log.19700101-000000"));
    }
}
