//! What a simulated node has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use knarr_runtime::cri::*;

use super::RUN_SECONDS;

pub struct State {
    pub sandboxes: BTreeMap<String, SandboxStatus>,
    pub containers: BTreeMap<String, ContainerStatus>,
    pub cgroups: BTreeSet<String>,
    /// Images that cannot be pulled.
    pub missing_images: BTreeSet<String>,
    pub pulls_take: Duration,
    next_ip: u32,
    next_id: u64,
}

impl State {
    pub fn new(first: Ipv4Addr) -> Self {
        Self {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            cgroups: BTreeSet::new(),
            missing_images: BTreeSet::new(),
            pulls_take: Duration::ZERO,
            next_ip: u32::from(first),
            next_id: 0,
        }
    }

    /// As long as a real runtime's, and in the order of creation.
    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("{:064x}", self.next_id)
    }

    pub fn add_sandbox(&mut self, config: SandboxConfig, now: UnixNanos) -> SandboxStatus {
        let ips = match config.namespaces.network {
            NamespaceMode::Node => Vec::new(),
            _ => {
                let ip = Ipv4Addr::from(self.next_ip);
                self.next_ip = self.next_ip.wrapping_add(1);
                vec![IpAddr::V4(ip)]
            }
        };
        let status = SandboxStatus {
            id: self.id(),
            metadata: config.metadata,
            state: SandboxState::Ready,
            created_at: now,
            netns: None,
            ips,
            labels: config.labels,
            annotations: config.annotations,
        };
        self.sandboxes.insert(status.id.clone(), status.clone());
        status
    }

    pub fn add_container(
        &mut self,
        sandbox: &str,
        config: ContainerConfig,
        now: UnixNanos,
    ) -> ContainerStatus {
        let status = ContainerStatus {
            id: self.id(),
            sandbox_id: sandbox.to_owned(),
            metadata: config.metadata,
            state: ContainerState::Created,
            created_at: now,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            signal: 0,
            reason: String::new(),
            message: String::new(),
            image_id: config.image.clone(),
            image: config.image,
            image_reference: config.image_reference,
            labels: config.labels,
            annotations: config.annotations,
            log_path: config.log_path,
            pid: None,
            resources: Some(config.resources),
            user: None,
            stop_signal: config.stop_signal.unwrap_or_default(),
        };
        self.containers.insert(status.id.clone(), status.clone());
        status
    }
}

/// How long the pod's containers run and how they end, where it says so.
pub fn run_time(annotations: &BTreeMap<String, String>) -> Option<(Duration, i32)> {
    let text = annotations.get(RUN_SECONDS)?;
    let (seconds, code) = text.split_once(',').unwrap_or((text, "0"));
    let seconds = Duration::try_from_secs_f64(seconds.trim().parse().ok()?).ok()?;
    Some((seconds, code.trim().parse().ok()?))
}

/// Every image exists.
pub fn image(reference: &str) -> ImageInfo {
    ImageInfo {
        id: format!("sha256:{:0>64x}", reference.len()),
        repo_tags: vec![reference.to_owned()],
        size: 1,
        ..ImageInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_times_are_read_from_annotations() {
        let of = |text: &str| run_time(&BTreeMap::from([(RUN_SECONDS.to_owned(), text.to_owned())]));
        assert_eq!(of("30"), Some((Duration::from_secs(30), 0)));
        assert_eq!(of("0.5, 3"), Some((Duration::from_millis(500), 3)));
        assert_eq!(of("-1"), None);
        assert_eq!(of("x"), None);
    }
}
