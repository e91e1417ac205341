//! From the API call to a container that the API says is running, with the image present.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::figures::{Sample, line};

const ONE_BY_ONE: usize = 30;
const AT_ONCE: usize = 60;

pub async fn measure(client: &kube::Client) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    // Creating the service account is the controllers' work at start.
    create_when_possible(&pods, "warm-up").await?;
    running(&pods, &["warm-up".to_owned()]).await?;
    let mut durations = Vec::new();
    let mut deletions = Vec::new();
    for index in 0..ONE_BY_ONE {
        let name = format!("one-{index}");
        let started = Instant::now();
        pods.create(&PostParams::default(), &pod(&name)?).await?;
        running(&pods, std::slice::from_ref(&name)).await?;
        durations.push(started.elapsed());
        let started = Instant::now();
        delete(&pods, &name).await?;
        deletions.push(started.elapsed());
    }
    line("API call to Running, image present", &Sample::new(durations).shown(), "p50 60 ms");
    line("deletion without grace until gone", &Sample::new(deletions).shown(), "100 ms");

    let names: Vec<String> = (0..AT_ONCE).map(|index| format!("many-{index}")).collect();
    let started = Instant::now();
    let creations = names.iter().map(|name| async {
        pods.create(&PostParams::default(), &pod(name)?).await?;
        anyhow::Ok(())
    });
    futures::future::try_join_all(creations).await?;
    running(&pods, &names).await?;
    let rate = AT_ONCE as f64 / started.elapsed().as_secs_f64();
    line(&format!("{AT_ONCE} pods at once until all run"), &format!("{rate:.0} pods/s"), "40 pods/s");
    for name in &names {
        pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    }
    Ok(())
}

fn pod(name: &str) -> anyhow::Result<Pod> {
    let spec =
        json!({"containers": [{"name": "c", "image": "knarr.local/hello", "imagePullPolicy": "Never"}]});
    Ok(serde_json::from_value(
        json!({"metadata": {"name": name, "labels": {"bench": "pods"}}, "spec": spec}),
    )?)
}

/// The namespace's service account appears a moment after the node.
async fn create_when_possible(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match pods.create(&PostParams::default(), &pod(name)?).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 403 && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until the API says that the first container of all of them runs.
async fn running(pods: &Api<Pod>, names: &[String]) -> anyhow::Result<()> {
    let mut missing: std::collections::BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut events = pods.watch(&WatchParams::default(), "0").await?.boxed();
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
        if runs(&pod) {
            missing.remove(pod.metadata.name.as_deref().unwrap_or_default());
        }
        if missing.is_empty() {
            return Ok(());
        }
    }
    anyhow::bail!("the watch ended before all pods ran: {missing:?}")
}

fn runs(pod: &Pod) -> bool {
    let states = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let state = states.and_then(|states| states.first()).and_then(|container| container.state.as_ref());
    state.is_some_and(|state| state.running.is_some())
}

async fn delete(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let field = format!("metadata.name={name}");
    let mut events = pods.watch(&WatchParams::default().fields(&field), "0").await?.boxed();
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    while let Some(event) = events.try_next().await? {
        if matches!(event, WatchEvent::Deleted(_)) {
            return Ok(());
        }
    }
    Err(anyhow::anyhow!("the watch ended")).with_context(|| format!("pod {name} was never gone"))
}
