//! Many watches of one kind: what each costs, and how fast changes reach all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::Notify;

use crate::figures::line;
use crate::http2::Endpoint;
use crate::memory;

const WATCHERS: usize = 1_000;
const PER_CONNECTION: usize = 100;
/// Objects that are changed, and how often each is.
const OBJECTS: usize = 20;
const CHANGES: usize = 10;
const LABEL: &str = "bench=watched";

/// Counts events until all have come.
#[derive(Default)]
struct Arrivals {
    count: AtomicUsize,
    all: Notify,
}

impl Arrivals {
    const EXPECTED: usize = WATCHERS * OBJECTS * CHANGES;

    fn add(&self, events: usize) {
        if self.count.fetch_add(events, Ordering::Relaxed) + events >= Self::EXPECTED {
            self.all.notify_one();
        }
    }
}

pub async fn measure(client: &kube::Client, endpoint: &Endpoint, pid: u32) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    for number in 0..OBJECTS {
        let map = json!({"metadata": {"name": format!("watched-{number}"), "labels": {"bench": "watched"}}});
        maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    }
    let begin = maps.list_metadata(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
    let path = format!(
        "/api/v1/namespaces/default/configmaps?watch=true&labelSelector={LABEL}&resourceVersion={begin}"
    );
    let (arrivals, before) = (Arc::new(Arrivals::default()), memory::resident(pid)?);
    let mut watches = Vec::with_capacity(WATCHERS);
    for _ in 0..WATCHERS / PER_CONNECTION {
        let mut connection = endpoint.connect().await?;
        for _ in 0..PER_CONNECTION {
            let body = connection.get(&path, "identity").await?.into_body();
            watches.push(tokio::spawn(count(body, arrivals.clone())));
        }
    }
    let each = memory::resident(pid)?.saturating_sub(before) / WATCHERS as u64;
    line("1,000 watches on 10 connections", &format!("{:.1} kB each", each as f64 / 1e3), "4 kB");
    let began = Instant::now();
    let changes = futures::stream::iter(0..OBJECTS * CHANGES).map(|change| {
        let maps = &maps;
        async move {
            let patch = Patch::Merge(json!({"data": {"change": change.to_string()}}));
            maps.patch(&format!("watched-{}", change % OBJECTS), &PatchParams::default(), &patch).await
        }
    });
    let mut changes = std::pin::pin!(changes.buffer_unordered(OBJECTS));
    while let Some(changed) = changes.next().await {
        changed?;
    }
    arrivals.all.notified().await;
    let rate = Arrivals::EXPECTED as f64 / began.elapsed().as_secs_f64();
    line("events to all of them in a burst", &format!("{rate:.0}/s"), "200,000/s");
    watches.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Counts the events of a watch, each of which is a line.
async fn count(mut body: Incoming, arrivals: Arc<Arrivals>) {
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            arrivals.add(data.iter().filter(|byte| **byte == b'\n').count());
        }
    }
}
