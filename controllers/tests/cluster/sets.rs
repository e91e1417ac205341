use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::harness::{Cluster, NAMESPACE, NODE, eventually};

fn template(image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "db" } },
        "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": image }] },
    })
}

async fn pod_names(cluster: &Cluster) -> Vec<String> {
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(ResourceExt::name_any).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_keeps_names_storage_and_order() {
    let cluster = Cluster::start().await;
    let set = json!({
        "metadata": { "name": "db" },
        "spec": {
            "replicas": 3,
            "serviceName": "db",
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } },
            "selector": { "matchLabels": { "app": "db" } },
            "template": template("image:1"),
            "volumeClaimTemplates": [{
                "metadata": { "name": "data" },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            }],
        },
    });
    cluster.create::<StatefulSet>(NAMESPACE, set).await;
    let ready = |revision: Option<String>| {
        let cluster = &cluster;
        async move {
            let status = cluster.api::<StatefulSet>().get("db").await.unwrap().status?;
            (status.ready_replicas == Some(3) && status.update_revision != revision).then_some(status)
        }
    };
    let first = eventually("all are ready", || ready(None)).await;
    assert_eq!(pod_names(&cluster).await, ["db-0", "db-1", "db-2"]);
    let claims = cluster.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(
        claims.iter().map(ResourceExt::name_any).collect::<Vec<_>>(),
        ["data-db-0", "data-db-1", "data-db-2"]
    );
    let patch = json!({ "spec": { "template": template("image:2") } });
    cluster
        .api::<StatefulSet>()
        .patch("db", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    eventually("those above the partition are replaced", || async {
        let status = ready(first.update_revision.clone()).await?;
        (status.updated_replicas == Some(2)).then_some(())
    })
    .await;
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    assert_eq!(pods.iter().map(image).collect::<Vec<_>>(), ["image:1", "image:2", "image:2"]);
    assert_eq!(
        cluster.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap().items.len(),
        2
    );
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_follows_the_nodes_and_its_template() {
    let cluster = Cluster::start().await;
    let set = json!({
        "metadata": { "name": "agent" },
        "spec": {
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1, "maxSurge": 0 } },
            "selector": { "matchLabels": { "app": "db" } },
            "template": template("image:1"),
        },
    });
    cluster.create::<DaemonSet>(NAMESPACE, set).await;
    let settled = |generation: i64| {
        let cluster = &cluster;
        async move {
            let status = cluster.api::<DaemonSet>().get("agent").await.unwrap().status?;
            let all = [Some(status.number_ready), status.updated_number_scheduled, status.number_available];
            (status.observed_generation == Some(generation) && all == [Some(1); 3]).then_some(status)
        }
    };
    eventually("the node has its pod", || settled(1)).await;
    let patch = json!({ "spec": { "template": template("image:2") } });
    cluster
        .api::<DaemonSet>()
        .patch("agent", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    eventually("it is of the new template", || settled(2)).await;
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let images: Vec<_> =
        pods.iter().map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap()).collect();
    assert_eq!(images, ["image:2"]);
    cluster.stop().await;
}
