//! Simulated nodes beside the real one.

use anyhow::Context;
use knarr_client::{ClientFactory, Identity};
use knarr_kubelet::sim::Fleet;

use super::control_plane::ControlPlane;
use super::tasks::Tasks;

/// Returns when all of them are registered.
pub async fn start(control_plane: &ControlPlane, count: u32, tasks: &mut Tasks) -> anyhow::Result<()> {
    if count == 0 {
        return Ok(());
    }
    // One identity for all: they are as much the administrator's as an agent of theirs would be each node's.
    let client =
        control_plane.client(&Identity::user("kubelet", "knarr-simulated-nodes", &["system:masters"]));
    let fleet = Fleet::new(client, count, control_plane.clock.clone(), control_plane.random.clone());
    fleet.register().await.context("adding simulated nodes")?;
    tasks.spawn("simulated nodes", |stop| async move {
        fleet.run(stop).await;
        Ok(())
    });
    Ok(())
}
