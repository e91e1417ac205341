//! Starting every container of a pod anew in its sandbox, because one of them ended in a way its rules say so.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use knarr_runtime::cri;

use super::actions::KillReason;
use super::kill::{self, How, KillError};
use super::observed::{Observed, Seen};
use super::worker::Worker;
use super::{restart, spec};

#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    #[error("{0}")]
    Kill(#[from] KillError),
    #[error("{0}")]
    Runtime(#[from] cri::Error),
}

impl Worker {
    /// Ends and removes all containers; the next sync finds none and begins with the first init container. Those whose
    /// end is the reason go last, so that a run that is interrupted here goes on.
    pub(super) async fn restart_all(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
    ) -> Result<(), RestartError> {
        let agent = Arc::clone(&self.agent);
        let how = How {
            message: "killing",
            reason: KillReason::Other,
            grace: Some(Duration::ZERO),
            ordering: None,
            shorter: None,
        };
        for seen in observed.running() {
            kill::container(&agent, pod, observed, seen, how).await?;
        }
        // How they ended is told before it is forgotten: restart counts go on from there.
        self.publish(pod).await;
        for seen in in_order(pod, observed) {
            agent.runtime.remove_container(&seen.id).await?;
        }
        Ok(())
    }
}

fn in_order<'a>(pod: &'a Pod, observed: &'a Observed) -> Vec<&'a Seen> {
    let runs = |sources: bool| {
        let all = spec::containers(pod).iter().chain(spec::init_containers(pod));
        all.flat_map(move |container| {
            let of = observed.containers.iter().filter(|seen| seen.name == container.name);
            of.filter(move |seen| restart::restarts_all(container, seen) == sources)
        })
    };
    runs(false).chain(runs(true)).collect()
}
