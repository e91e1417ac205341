//! The scheduler: its configuration, and starting it.

use std::path::Path;

use anyhow::Context;
use knarr_client::events::EventBroadcaster;
use knarr_client::{ClientFactory, Identity, InformerFactory};
use knarr_scheduler::{Config, KubeSchedulerConfiguration, Scheduler};

use super::control_plane::ControlPlane;
use super::tasks::Tasks;

/// What a file says, or the defaults.
pub fn config(file: Option<&Path>) -> anyhow::Result<Config> {
    let Some(file) = file else { return Ok(Config::default()) };
    let read = || -> anyhow::Result<Config> {
        let text = std::fs::read_to_string(file)?;
        let wire: KubeSchedulerConfiguration = serde_yaml::from_str(&text)?;
        Ok(Config::try_from(wire)?)
    };
    read().with_context(|| format!("--scheduler-config {}", file.display()))
}

pub fn start(config: Config, control_plane: &ControlPlane, tasks: &mut Tasks) {
    let identity = Identity::user("kube-scheduler", "system:kube-scheduler", &["system:authenticated"]);
    let client = control_plane.client(&identity);
    let (clock, random) = (control_plane.clock.clone(), control_plane.random.clone());
    tasks.spawn("scheduler", |stop| async move {
        let informers = InformerFactory::new(client.clone(), random.clone());
        let (events, sending) =
            EventBroadcaster::new(client.clone(), clock.clone(), random.clone(), stop.clone());
        let scheduler = Scheduler::build(config, client, &informers, events, clock, random);
        informers.start();
        tokio::join!(scheduler.run(stop), sending);
        informers.stop().await;
        Ok(())
    });
}
