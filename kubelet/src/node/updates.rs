//! The node's status in the API: at once when it changes, else at upstream's cadence.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_client::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::conditions::{self, Health};
use super::{object, reference};
use crate::agent::Agent;
use crate::eviction::Shortage;
use crate::images::collect;

/// Reports until the agent stops; `changed` asks for a look before the next tick.
pub struct Reporter {
    pub agent: Arc<Agent>,
    pub changed: Arc<Notify>,
    reported: Option<(NodeStatus, Timestamp)>,
    conditions: Vec<NodeCondition>,
}

impl Reporter {
    /// `known`: the status the API has.
    pub fn new(agent: Arc<Agent>, changed: Arc<Notify>, known: Option<NodeStatus>) -> Self {
        let conditions = known.and_then(|status| status.conditions).unwrap_or_default();
        Self { agent, changed, reported: None, conditions }
    }

    pub async fn run(mut self) {
        let period = self.agent.config.node_status_update_frequency;
        loop {
            if let Err(error) = self.report().await {
                tracing::warn!(node = self.agent.config.node_name, %error, "error updating node status, will retry");
            }
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Looks, and tells the API when something changed or it was long ago.
    pub async fn report(&mut self) -> kube::Result<()> {
        let now = self.agent.now();
        let status = current(&self.agent, &self.conditions, now).await;
        let due = match &self.reported {
            None => true,
            Some((before, at)) => {
                let frequency =
                    jiff::SignedDuration::try_from(self.agent.config.node_status_report_frequency);
                !same(before, &status)
                    || now.duration_since(*at) >= frequency.unwrap_or(jiff::SignedDuration::MAX)
            }
        };
        if !due {
            return Ok(());
        }
        let api: Api<Node> = Api::all(self.agent.client.clone());
        let name = &self.agent.config.node_name;
        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch(&status))).await?;
        self.tell_changes(&status);
        self.conditions = status.conditions.clone().unwrap_or_default();
        self.reported = Some((status, now));
        Ok(())
    }

    fn tell_changes(&self, status: &NodeStatus) {
        for condition in status.conditions.iter().flatten() {
            let before = self.conditions.iter().find(|old| old.type_ == condition.type_);
            if before.is_some_and(|before| before.status == condition.status) {
                continue;
            }
            if let Some(event) = conditions::event(condition) {
                let name = &self.agent.config.node_name;
                let message = format!("Node {name} status is now: {event}");
                self.agent.recorder.normal(reference(name), event, message);
            }
        }
    }
}

/// The status as it is now.
pub async fn current(agent: &Agent, before: &[NodeCondition], now: Timestamp) -> NodeStatus {
    let mut health = Health {
        memory_pressure: agent.pressure.under(Shortage::Memory),
        disk_pressure: agent.pressure.under(Shortage::Disk),
        pid_pressure: agent.pressure.under(Shortage::Pid),
        ..Health::default()
    };
    let runtime = match agent.runtime.info().await {
        Ok(info) if info.ready => info,
        Ok(info) => {
            health.problems.push(format!(
                "container runtime not ready: RuntimeReady=false reason:RuntimeNotReady message:{}",
                info.message
            ));
            info
        }
        Err(error) => {
            health.problems.push(format!("container runtime is down: {error}"));
            knarr_runtime::cri::RuntimeInfo { name: agent.runtime_name.clone(), ..Default::default() }
        }
    };
    let images = agent.runtime.list_images().await.unwrap_or_default();
    let disk = agent.config.host.then(|| collect::disk(&agent.config.root_dir).ok()).flatten();
    let images = object::images(&agent.config, images);
    let mut status = object::status(&agent.config, &agent.machine, &runtime, disk, images);
    status.conditions = Some(conditions::all(&health, before, &Time(now)));
    status.volumes_in_use = Some(agent.volumes.csi.in_use.names()).filter(|names| !names.is_empty());
    status
}

/// Equal but for heartbeats.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let quiet = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    quiet(a) == quiet(b)
}

/// Conditions of other writers stay (they merge by type); addresses are replaced as a whole.
fn patch(status: &NodeStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if status.volumes_in_use.is_none() {
        value["volumesInUse"] = Value::Null;
    }
    if let Some(addresses) = value.get_mut("addresses").and_then(Value::as_array_mut) {
        addresses.push(json!({"$patch": "replace"}));
    }
    json!({ "status": value })
}
