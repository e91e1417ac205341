use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Event, Pod},
};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::harness::{Cluster, NAMESPACE, NODE, eventually};

pub fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } },
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "image:1" }] },
            },
        },
    })
}

async fn complete(cluster: &Cluster, name: &str, replicas: i32) -> Deployment {
    eventually("the rollout is complete", || async {
        let deployment = cluster.api::<Deployment>().get(name).await.unwrap();
        let status = deployment.status.clone().unwrap_or_default();
        let all = [status.replicas, status.updated_replicas, status.available_replicas];
        let observed = status.observed_generation == deployment.metadata.generation;
        (observed
            && all.iter().all(|count| *count == Some(replicas))
            && status.terminating_replicas == Some(0))
        .then_some(deployment)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_deployment_rolls_forward_and_back_within_its_bounds() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 3)).await;
    let first = complete(&cluster, "web", 3).await;
    assert_eq!(first.annotations()["deployment.kubernetes.io/revision"], "1");
    let condition = |deployment: &Deployment, kind: &str| {
        let status = deployment.status.clone().unwrap();
        status.conditions.unwrap().into_iter().find(|c| c.type_.as_deref() == Some(kind)).unwrap()
    };
    assert_eq!(condition(&first, "Progressing").reason.as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(condition(&first, "Available").status.as_deref(), Some("True"));

    let patch = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "main", "image": "image:2" }] } } } });
    let api = cluster.api::<Deployment>();
    api.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    let second = eventually("the second revision is complete", || async {
        let deployment = complete(&cluster, "web", 3).await;
        (deployment.annotations()["deployment.kubernetes.io/revision"] == "2").then_some(deployment)
    })
    .await;
    assert_eq!(condition(&second, "Progressing").reason.as_deref(), Some("NewReplicaSetAvailable"));
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    let sizes: Vec<_> = sets.iter().map(|set| set.spec.replicas.unwrap()).collect();
    assert_eq!((sets.len(), sizes.iter().sum::<i32>()), (2, 3));
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert!(
        pods.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("image:2"))
    );

    let patch = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "main", "image": "image:1" }] } } } });
    api.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    eventually("going back gives the first set a new revision", || async {
        let deployment = complete(&cluster, "web", 3).await;
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
        let history =
            sets.iter().filter_map(|set| set.annotations().get("deployment.kubernetes.io/revision-history"));
        let history: Vec<_> = history.collect();
        (deployment.annotations()["deployment.kubernetes.io/revision"] == "3"
            && history == ["1"]
            && sets.len() == 2)
            .then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_never_gets_ready_keeps_the_old_pods_and_times_out() {
    let cluster = Cluster::start().await;
    let mut object = deployment("web", 4);
    object["spec"]["progressDeadlineSeconds"] = 30.into();
    cluster.create::<Deployment>(NAMESPACE, object).await;
    complete(&cluster, "web", 4).await;
    let patch = json!({ "spec": { "template": { "metadata": { "labels": { "never-ready": "yes" } } } } });
    let api = cluster.api::<Deployment>();
    api.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    let stuck = eventually("the deadline is reported", || async {
        let deployment = api.get("web").await.unwrap();
        let conditions = deployment.status.clone().unwrap().conditions.unwrap();
        conditions
            .iter()
            .any(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"))
            .then_some(deployment)
    })
    .await;
    let status = stuck.status.unwrap();
    assert_eq!(status.available_replicas, Some(3), "a quarter of four may be unavailable");
    assert_eq!(status.updated_replicas, Some(2), "one for the surge, one for what was taken away");
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn scaling_keeps_the_revision_and_is_told_in_events() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 2)).await;
    complete(&cluster, "web", 2).await;
    let api = cluster.api::<Deployment>();
    let patch = json!({ "spec": { "replicas": 5 } });
    api.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let scaled = complete(&cluster, "web", 5).await;
    assert_eq!(scaled.annotations()["deployment.kubernetes.io/revision"], "1");
    eventually("the scaling is told", || async {
        let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let told = |event: &Event| event.message.as_deref().unwrap_or_default().ends_with("from 2 to 5");
        events.iter().any(told).then_some(())
    })
    .await;
    cluster.stop().await;
}
