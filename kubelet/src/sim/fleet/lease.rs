//! Leases of simulated nodes: renewed one after the other, so that the load is even, each in a quarter of its time.

use std::time::Duration;

use futures::{StreamExt, stream};
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use knarr_api::time::SharedClock;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::{Api, CONCURRENCY, has_code, node_name};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const DURATION_SECONDS: u32 = 40;
const ROUND: Duration = Duration::from_secs(DURATION_SECONDS as u64 / 4);
/// Parts of a round: fewer wake-ups than one per node.
const PARTS: u32 = 50;

/// Renews for ever.
pub async fn renew_all(api: &Api, nodes: u32, clock: &SharedClock) {
    let mut tick = tokio::time::interval(ROUND / PARTS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for part in (0..PARTS).cycle() {
        tick.tick().await;
        let mine = (part..nodes).step_by(PARTS as usize);
        let renewals = stream::iter(mine).map(|number| async move {
            if let Err(error) = renew(api, number, clock).await {
                tracing::warn!(node = node_name(number), %error, "failed to update lease");
            }
        });
        renewals.buffer_unordered(CONCURRENCY).collect::<()>().await;
    }
}

async fn renew(api: &Api, number: u32, clock: &SharedClock) -> Result<(), kube::Error> {
    let name = node_name(number);
    let spec = json!({
        "holderIdentity": name,
        "leaseDurationSeconds": DURATION_SECONDS,
        "renewTime": MicroTime(clock.now()),
    });
    let renewal = json!({"spec": spec});
    let path = format!("{LEASES}/{name}");
    match api.send(Method::PATCH, &path, "application/merge-patch+json", &renewal).await {
        Err(error) if has_code(&error, 404) => {
            let lease = json!({"metadata": {"name": name}, "spec": spec});
            api.send(Method::POST, LEASES, "application/json", &lease).await
        }
        outcome => outcome,
    }
}
