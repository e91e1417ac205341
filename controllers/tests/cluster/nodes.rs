use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use knarr_client::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::{
    deployments::deployment,
    harness::{Cluster, NAMESPACE, NODE, eventually},
};

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_unknown_and_gets_no_new_pods() {
    let cluster = Cluster::start().await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let silent = eventually("it is tainted", || async {
        let node = nodes.get(NODE).await.unwrap();
        let taints = node.spec.clone().unwrap_or_default().taints.unwrap_or_default();
        let tainted =
            taints.iter().any(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == "NoSchedule");
        tainted.then_some(node)
    })
    .await;
    let conditions = silent.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
    cluster.node_says("True").await;
    eventually("it is itself again", || async {
        let taints = nodes.get(NODE).await.unwrap().spec.unwrap_or_default().taints;
        taints.unwrap_or_default().is_empty().then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_leave_a_node_with_a_taint_they_do_not_tolerate() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 1)).await;
    let first = eventually("a pod is on the node", || async {
        let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        pods.into_iter().find(|pod| pod.spec.as_ref().unwrap().node_name.is_some())
    })
    .await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    let patch = json!({ "spec": { "taints": [{ "key": "maintenance", "effect": "NoExecute" }] } });
    nodes.patch(NODE, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    eventually("the pod is driven away", || async {
        let name = first.metadata.name.as_deref().unwrap();
        cluster.api::<Pod>().get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_gone_are_removed() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 1)).await;
    let first = eventually("a pod is on the node", || async {
        let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        pods.into_iter().find(|pod| pod.spec.as_ref().unwrap().node_name.is_some())
    })
    .await;
    let nodes = Api::<Node>::all(cluster.client.clone());
    nodes.delete(NODE, &kube::api::DeleteParams::default()).await.unwrap();
    eventually("its pod is removed", || async {
        let name = first.metadata.name.as_deref().unwrap();
        cluster.api::<Pod>().get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}
