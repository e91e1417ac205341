use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Pod},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    deployments::deployment,
    harness::{Cluster, NAMESPACE, eventually},
};

async fn with_pods(cluster: &Cluster) {
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 2)).await;
    eventually("pods are there", || async {
        let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        (pods.len() == 2).then_some(())
    })
    .await;
}

async fn counts(cluster: &Cluster) -> (usize, usize, usize) {
    let all = ListParams::default();
    (
        cluster.api::<Deployment>().list(&all).await.unwrap().items.len(),
        cluster.api::<ReplicaSet>().list(&all).await.unwrap().items.len(),
        cluster.api::<Pod>().list(&all).await.unwrap().items.len(),
    )
}

#[tokio::test(start_paused = true)]
async fn deleting_in_the_background_takes_the_dependents_along() {
    let cluster = Cluster::start().await;
    with_pods(&cluster).await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    eventually("all is gone", || async { (counts(&cluster).await == (0, 0, 0)).then_some(()) }).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleting_in_the_foreground_waits_for_the_dependents() {
    let cluster = Cluster::start().await;
    with_pods(&cluster).await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::foreground()).await.unwrap();
    let going = cluster.api::<Deployment>().get("web").await.unwrap();
    assert_eq!(going.finalizers(), ["foregroundDeletion"]);
    eventually("the owner goes last", || async {
        let (deployments, sets, pods) = counts(&cluster).await;
        assert!(
            deployments == 1 || (sets, pods) == (0, 0),
            "the owner went before {sets} sets and {pods} pods"
        );
        (deployments == 0).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_and_belong_to_nobody() {
    let cluster = Cluster::start().await;
    with_pods(&cluster).await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::orphan()).await.unwrap();
    eventually("the owner is gone", || async { (counts(&cluster).await.0 == 0).then_some(()) }).await;
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 1);
    assert!(sets[0].owner_references().is_empty());
    assert_eq!(counts(&cluster).await.2, 2);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_owner_never_was_is_garbage() {
    let cluster = Cluster::start().await;
    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "11111111-2222-3333-4444-555555555555" });
    let object = json!({ "metadata": { "name": "lost", "ownerReferences": [owner] } });
    cluster.create::<ConfigMap>(NAMESPACE, object).await;
    eventually("it is collected", || async {
        cluster.api::<ConfigMap>().get_opt("lost").await.unwrap().is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}
