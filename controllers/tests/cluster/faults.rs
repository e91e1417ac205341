//! Requests that fail, before the server heard of them or after it did what they asked.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::Pod,
};
use knarr_api::time::{Random, SeededRandom};
use knarr_client::{Client, connect::in_process};
use knarr_controllers::Config;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
    client::Body,
};
use serde_json::{Value, json};

use crate::{
    deployments::deployment,
    harness::{Cluster, NAMESPACE, NODE, eventually},
};

const ERRORS: [(u16, &str); 6] = [
    (500, "InternalError"),
    (429, "TooManyRequests"),
    (409, "Conflict"),
    (503, "ServiceUnavailable"),
    (504, "Timeout"),
    (403, "Forbidden"),
];

/// How often the node says that it is well, in questions a tenth of a second apart.
const HEARTBEAT: usize = 100;

fn refusal(random: &SeededRandom) -> http::Response<Body> {
    let pick = usize::try_from(random.below(ERRORS.len() as u64)).unwrap();
    let (code, reason) = ERRORS[pick];
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": "injected",
    });
    http::Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Body::from(status.to_string().into_bytes()))
        .unwrap()
}

/// One request in eight is refused, and of the others the answer to one in twelve is lost; `unheard` counts the pods
/// that were created so.
fn unreliable(client: Client, random: Arc<SeededRandom>, unheard: Arc<AtomicUsize>) -> Client {
    in_process(tower::service_fn(move |request: http::Request<Body>| {
        let (client, random, unheard) = (client.clone(), Arc::clone(&random), Arc::clone(&unheard));
        async move {
            if random.below(8) == 0 {
                return Ok(refusal(&random));
            }
            let creates = request.method() == http::Method::POST && request.uri().path().ends_with("/pods");
            let answer = client.send(request).await?;
            if random.below(12) != 0 {
                return Ok::<_, kube::Error>(answer);
            }
            if creates {
                unheard.fetch_add(1, Ordering::Relaxed);
            }
            Ok(refusal(&random))
        }
    }))
}

fn workload(kind: &str, more: Value) -> Value {
    let mut object = json!({
        "metadata": { "name": kind },
        "spec": {
            "selector": { "matchLabels": { "app": kind } },
            "template": {
                "metadata": { "labels": { "app": kind } },
                "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "image:1" }] },
            },
        },
    });
    for (key, value) in more.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

/// The promises that hold at every moment, whatever fails. As upstream, who does not hear that its pod was created may
/// create it again before it sees the first: then there is one too many, until it does.
async fn check(cluster: &Cluster, unheard: &AtomicUsize) {
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let active = |app: &str| {
        let is_active = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
        };
        pods.iter()
            .filter(is_active)
            .filter(|pod| pod.labels().get("app").is_some_and(|it| it == app))
            .count()
    };
    // Counted after the list, so that no pod of it is left out.
    let unheard = unheard.load(Ordering::Relaxed);
    assert!(active("web") <= 5 + unheard, "never more than surge");
    assert!(active("agent") <= 1 + unheard, "one daemon a node");
    assert!(active("db") <= 3, "one pod an ordinal");
    let jobs: Vec<_> = pods.iter().filter(|pod| pod.labels().contains_key("ends-as")).collect();
    assert!(jobs.len() <= 6 + unheard, "no more pods than completions");
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    let names: BTreeSet<_> = sets.iter().map(|set| set.labels()["pod-template-hash"].clone()).collect();
    assert_eq!(names.len(), sets.len(), "one set a template");
}

#[tokio::test(start_paused = true)]
async fn everything_converges_when_requests_fail_at_random() {
    let (random, unheard) = (Arc::new(SeededRandom::new(41)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&unheard);
    let wrap = move |client| unreliable(client, Arc::clone(&random), Arc::clone(&counted));
    let cluster = Cluster::through(Config::default(), wrap).await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 4)).await;
    cluster
        .create::<StatefulSet>(NAMESPACE, workload("db", json!({ "replicas": 3, "serviceName": "db" })))
        .await;
    cluster.create::<DaemonSet>(NAMESPACE, workload("agent", json!({}))).await;
    let job = json!({
        "metadata": { "name": "sum" },
        "spec": {
            "completions": 6, "parallelism": 3,
            "template": {
                "metadata": { "labels": { "ends-as": "Succeeded" } },
                "spec": {
                    "nodeName": NODE, "restartPolicy": "Never",
                    "containers": [{ "name": "main", "image": "image:1" }],
                },
            },
        },
    });
    cluster.create::<Job>(NAMESPACE, job).await;
    let asked = AtomicUsize::new(0);
    let settled = |generation: i64| {
        let (cluster, unheard, asked) = (&cluster, &unheard, &asked);
        async move {
            // However long it takes: a node that falls silent would take the readiness of its pods along.
            if asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(HEARTBEAT) {
                cluster.node_says("True").await;
            }
            check(cluster, unheard).await;
            let web = cluster.api::<Deployment>().get("web").await.unwrap().status?;
            let db = cluster.api::<StatefulSet>().get("db").await.unwrap().status?;
            let agent = cluster.api::<DaemonSet>().get("agent").await.unwrap().status?;
            let sum = cluster.api::<Job>().get("sum").await.unwrap().status?;
            let web = web.observed_generation == Some(generation)
                && web.replicas == Some(4)
                && web.updated_replicas == Some(4)
                && web.available_replicas == Some(4);
            let others = db.ready_replicas == Some(3) && agent.number_ready == 1 && sum.succeeded >= Some(6);
            (web && others && sum.completion_time.is_some()).then_some(())
        }
    };
    eventually("all is as asked", || settled(1)).await;
    let patch = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "main", "image": "image:2" },
    ] } } } });
    let deployments = cluster.api::<Deployment>();
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    eventually("the rollout is complete", || settled(2)).await;
    cluster.stop().await;
}
