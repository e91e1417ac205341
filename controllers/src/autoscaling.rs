//! HorizontalPodAutoscalers: as many replicas as the measured load asks for.
//!
//! [`metrics`] reads the three metrics APIs, [`calculate`] turns samples into a number of replicas, [`behavior`] holds
//! that number back as the autoscaler's rules say, [`target`] is what is scaled, [`compute`] goes through the
//! metrics of one autoscaler, [`sync`] is one look at it.

mod behavior;
mod calculate;
mod compute;
mod conditions;
mod metrics;
mod sync;
mod target;

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use knarr_client::{Change, ObjectKey};
use parking_lot::Mutex;

use self::{metrics::Metrics, sync::Sync, target::Targets};
use crate::Context;

const COMPONENT: &str = "horizontal-pod-autoscaler";
const WORKERS: usize = 5;

/// Loads change without any object changing, so every autoscaler is looked at this often.
const PERIOD: Duration = Duration::from_secs(15);

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("horizontalpodautoscaler");
    let (scalers, pods) = (wiring.cache::<HorizontalPodAutoscaler>(), wiring.cache::<Pod>());
    wiring.on(&scalers, |change| {
        // What we write into the status is no reason to measure again before it is time.
        let only_status = matches!(change, Change::Updated { old, new } if old.spec == new.spec);
        (!only_status).then(|| ObjectKey::of(&**change.object()))
    });
    let client = context.client.clone();
    let sync = Sync {
        scalers,
        pods,
        recorder: context.recorder(COMPONENT),
        metrics: Metrics::new(client.clone(), context.resources.clone()),
        targets: Targets { client: client.clone(), resources: context.resources.clone() },
        histories: Mutex::default(),
        selectors: Mutex::default(),
        client,
        clock: context.clock.clone(),
    };
    wiring.run(WORKERS, sync)
}
