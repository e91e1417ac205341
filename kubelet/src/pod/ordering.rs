//! The order in which a pod's containers end: regular ones first, then sidecars in reverse of their start.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::Instant;

use super::spec;

/// Who waits for whom; one per termination.
pub struct Ordering {
    ended: HashMap<String, watch::Sender<bool>>,
    before: HashMap<String, Vec<watch::Receiver<bool>>>,
}

impl Ordering {
    /// Containers that do not run hold nobody up.
    pub fn new(pod: &Pod, running: &[&str]) -> Self {
        let mut ordering = Self { ended: HashMap::new(), before: HashMap::new() };
        let mut regular = Vec::new();
        for container in spec::containers(pod) {
            regular.push(ordering.add(&container.name, running));
        }
        let mut later: Option<watch::Receiver<bool>> = None;
        for container in spec::init_containers(pod).iter().rev() {
            let ended = ordering.add(&container.name, running);
            if spec::is_restartable_init(container) {
                let before = regular.iter().cloned().chain(later.take()).collect();
                ordering.before.insert(container.name.clone(), before);
                later = Some(ended);
            }
        }
        ordering
    }

    fn add(&mut self, name: &str, running: &[&str]) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(!running.contains(&name));
        self.ended.insert(name.to_owned(), sender);
        receiver
    }

    /// Waits for those that end before this container, at most `grace`; says how long it waited.
    pub async fn wait_for_turn(&self, name: &str, grace: Duration) -> Duration {
        let start = Instant::now();
        let deadline = start + grace;
        for ended in self.before.get(name).into_iter().flatten() {
            let mut ended = ended.clone();
            // A dropped sender means the termination is over.
            let wait = async { ended.wait_for(|ended| *ended).await.map(drop).unwrap_or_default() };
            if tokio::time::timeout_at(deadline, wait).await.is_err() {
                break;
            }
        }
        start.elapsed()
    }

    pub fn ended(&self, name: &str) {
        if let Some(sender) = self.ended.get(name) {
            sender.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sidecars_end_after_the_rest_and_in_reverse() {
        let container = |name: &str, sidecar: bool| Container {
            name: name.into(),
            restart_policy: sidecar.then(|| "Always".into()),
            ..Container::default()
        };
        let pod = Pod {
            spec: Some(PodSpec {
                containers: vec![container("main", false)],
                init_containers: Some(vec![container("first", true), container("second", true)]),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        let ordering = Ordering::new(&pod, &["main", "first", "second"]);
        let second = Duration::from_secs(1);
        assert_eq!(ordering.wait_for_turn("main", second).await, Duration::ZERO);
        assert_eq!(ordering.wait_for_turn("second", second).await, second);
        ordering.ended("main");
        assert_eq!(ordering.wait_for_turn("second", second).await, Duration::ZERO);
        assert_eq!(ordering.wait_for_turn("first", second).await, second);
        ordering.ended("second");
        assert_eq!(ordering.wait_for_turn("first", second).await, Duration::ZERO);
    }
}
