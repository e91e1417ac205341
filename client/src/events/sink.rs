//! Sends events, one after the other.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use knarr_api::time::{SharedClock, SharedRandom};
use kube::{
    Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::correlator::{Correlator, Verdict};
use crate::{
    Api,
    error::{is_conflict, is_not_found},
};

/// Attempts to send one event while the server cannot be reached, and the pause between them.
const ATTEMPTS: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

pub(super) async fn run(
    client: Client,
    clock: SharedClock,
    random: SharedRandom,
    mut events: mpsc::Receiver<Event>,
    shutdown: CancellationToken,
) {
    let mut correlator = Correlator::default();
    let send_all = async {
        while let Some(event) = events.recv().await {
            let verdict = correlator.judge(event, clock.now(), Instant::now());
            send_patiently(&client, &random, verdict).await;
        }
    };
    shutdown.run_until_cancelled(send_all).await;
}

async fn send_patiently(client: &Client, random: &SharedRandom, verdict: Verdict) {
    if verdict == Verdict::Drop {
        return;
    }
    for attempt in 1..=ATTEMPTS {
        let Err(error) = send(client, &verdict).await else { return };
        match error {
            // The server understood and said no: the same event would be refused again. Most often its
            // namespace is going away.
            kube::Error::Api(status) => return debug!(%status, "server rejected event, dropping it"),
            error if attempt == ATTEMPTS => return warn!(%error, "cannot send event, giving up"),
            error => debug!(%error, attempt, "cannot send event, retrying"),
        }
        // The first pause is random so that clients of a restarted server do not come all at once.
        sleep(if attempt == 1 { PAUSE.mul_f64(random.unit()) } else { PAUSE }).await;
    }
}

async fn send(client: &Client, verdict: &Verdict) -> Result<(), kube::Error> {
    let event = match verdict {
        Verdict::Drop => return Ok(()),
        Verdict::Create(event) => event,
        Verdict::Update(event) => match count(client, event).await {
            // The counted event has expired.
            Err(error) if is_not_found(&error) => event,
            other => return other,
        },
    };
    let api = Api::<Event>::namespaced(client.clone(), &event.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), event).await {
        Err(error) if is_conflict(&error) => Ok(()),
        other => other.map(drop),
    }
}

async fn count(client: &Client, event: &Event) -> Result<(), kube::Error> {
    let api = Api::<Event>::namespaced(client.clone(), &event.namespace().unwrap_or_default());
    let patch = json!({
        "count": event.count,
        "lastTimestamp": event.last_timestamp,
        "message": event.message,
    });
    api.patch(&event.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
}
