//! A large cluster of simulated nodes: how fast it comes up, and how the API answers meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use knarr_e2e::Cluster;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::connect;
use crate::figures::{Sample, line};

const NODES: usize = 5_000;
const DEPLOYMENTS: usize = 20;
const REPLICAS: usize = 500;
/// Pause between two probes of the API.
const PROBE: Duration = Duration::from_millis(10);

pub async fn measure() -> anyhow::Result<()> {
    let cluster = Cluster::prepare("bench-scale");
    let began = Instant::now();
    cluster.up_with(&["--sim-nodes", &NODES.to_string()]).ok();
    let client = connect(&cluster).await?;
    let (up, done) = (began.elapsed(), AtomicBool::new(false));
    let (pods, probes) = tokio::try_join!(
        async {
            let pods = run_pods(&client).await;
            done.store(true, Ordering::Relaxed);
            pods
        },
        probe(&client, &done)
    )?;
    let count = pods.len();
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    line(&format!("{NODES} simulated nodes up"), &seconds(up), "-");
    line(&format!("... and {count} pods ready on them"), &seconds(began.elapsed()), "10 s");
    line("pod start-up at that size", &Sample::new(pods).shown(), "p99 5 s");
    line("mutating calls meanwhile", &Sample::new(probes.mutating).shown(), "p99 1 s");
    line("reads of one object meanwhile", &Sample::new(probes.reading).shown(), "p99 1 s");
    Ok(())
}

fn deployment(number: usize) -> anyhow::Result<Deployment> {
    let name = format!("scale-{number}");
    let labels = json!({"app": name});
    let spec = json!({
        "nodeSelector": {"type": "simulated"},
        "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "simulated"}],
    });
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }))?)
}

/// How long each pod took from when it was first seen until it was ready.
async fn run_pods(client: &Client) -> anyhow::Result<Vec<Duration>> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let version = pods.list(&ListParams::default().limit(1)).await?.metadata.resource_version;
    let mut events = pods.watch(&WatchParams::default(), &version.unwrap_or_default()).await?.boxed();
    for number in 0..DEPLOYMENTS {
        deployments.create(&PostParams::default(), &deployment(number)?).await?;
    }
    let (mut seen, mut ready) = (HashMap::new(), Vec::new());
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let first = *seen.entry(uid).or_insert_with(|| Some(Instant::now()));
        if let Some(first) = first.filter(|_| is_ready(&pod)) {
            ready.push(first.elapsed());
            seen.insert(pod.metadata.uid.unwrap_or_default(), None);
        }
        if ready.len() == DEPLOYMENTS * REPLICAS {
            return Ok(ready);
        }
    }
    anyhow::bail!("the watch ended when {} pods were ready", ready.len())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[derive(Default)]
struct Probes {
    mutating: Vec<Duration>,
    reading: Vec<Duration>,
}

/// Asks the API as a user would until all is done.
async fn probe(client: &Client, done: &AtomicBool) -> anyhow::Result<Probes> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut probes = Probes::default();
    for number in 0_u64.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("probe-{number}");
        let map = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"key": "value"}}))?;
        let began = Instant::now();
        maps.create(&PostParams::default(), &map).await?;
        probes.mutating.push(began.elapsed());
        let began = Instant::now();
        maps.get(&name).await?;
        probes.reading.push(began.elapsed());
        let (began, patch) = (Instant::now(), Patch::Merge(json!({"data": {"key": "other"}})));
        maps.patch(&name, &PatchParams::default(), &patch).await?;
        probes.mutating.push(began.elapsed());
        let began = Instant::now();
        maps.delete(&name, &DeleteParams::default()).await?;
        probes.mutating.push(began.elapsed());
        tokio::time::sleep(PROBE).await;
    }
    Ok(probes)
}
