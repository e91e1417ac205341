use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Endpoints, PersistentVolume, PersistentVolumeClaim, ResourceQuota, Service},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
};
use knarr_client::Api;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    deployments::deployment,
    harness::{Cluster, NAMESPACE, eventually},
};

#[tokio::test(start_paused = true)]
async fn a_claim_gets_the_smallest_volume_and_gives_it_up() {
    let cluster = Cluster::start().await;
    for (name, size) in [("large", "10Gi"), ("small", "2Gi")] {
        let volume = json!({
            "metadata": { "name": name },
            "spec": {
                "capacity": { "storage": size },
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": { "path": "/data" },
            },
        });
        cluster.create::<PersistentVolume>("", volume).await;
    }
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    cluster.create::<PersistentVolumeClaim>(NAMESPACE, claim).await;
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let phase = |name: &'static str| {
        let volumes = volumes.clone();
        async move { volumes.get(name).await.unwrap().status.and_then(|status| status.phase) }
    };
    let bound = eventually("the claim is bound", || async {
        let claim = cluster.api::<PersistentVolumeClaim>().get("data").await.unwrap();
        (claim.status.as_ref()?.phase.as_deref() == Some("Bound")).then_some(claim)
    })
    .await;
    assert_eq!(bound.spec.as_ref().unwrap().volume_name.as_deref(), Some("small"));
    assert_eq!(bound.finalizers(), ["kubernetes.io/pvc-protection"]);
    eventually("so is the volume", || async {
        (phase("small").await.as_deref() == Some("Bound")).then_some(())
    })
    .await;
    eventually("the other is free", || async {
        (phase("large").await.as_deref() == Some("Available")).then_some(())
    })
    .await;
    cluster.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await.unwrap();
    eventually("the volume is released", || async {
        (phase("small").await.as_deref() == Some("Released")).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_says_how_many_pods_may_go() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 4)).await;
    let budget = json!({
        "metadata": { "name": "web" },
        "spec": { "maxUnavailable": "25%", "selector": { "matchLabels": { "app": "web" } } },
    });
    cluster.create::<PodDisruptionBudget>(NAMESPACE, budget).await;
    eventually("one of four may go", || async {
        let status = cluster.api::<PodDisruptionBudget>().get("web").await.unwrap().status?;
        let all = (
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
            status.disruptions_allowed,
        );
        (all == (Some(4), Some(3), Some(4), Some(1))).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_says_what_is_used() {
    let cluster = Cluster::start().await;
    let quota = json!({
        "metadata": { "name": "limits" },
        "spec": { "hard": { "pods": "10", "services": "5", "count/deployments.apps": "4", "configmaps": "20" } },
    });
    cluster.create::<ResourceQuota>(NAMESPACE, quota).await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 3)).await;
    eventually("it counts pods and deployments", || async {
        let used = cluster.api::<ResourceQuota>().get("limits").await.unwrap().status?.used?;
        let amount = |name: &str| used.get(name).map(|amount| amount.0.clone());
        let counted =
            [amount("pods"), amount("services"), amount("count/deployments.apps"), amount("configmaps")];
        let wanted = ["3", "0", "1", "1"].map(|text| Some(text.to_owned()));
        (counted == wanted).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_made_by_hand_are_mirrored() {
    let cluster = Cluster::start().await;
    let service = json!({ "metadata": { "name": "outside" }, "spec": { "ports": [{ "port": 80 }] } });
    cluster.create::<Service>(NAMESPACE, service).await;
    let endpoints = json!({
        "metadata": { "name": "outside" },
        "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }], "ports": [{ "port": 8080 }] }],
    });
    cluster.create::<Endpoints>(NAMESPACE, endpoints).await;
    let slices = || async {
        let all = cluster.api::<EndpointSlice>().list(&ListParams::default()).await.unwrap().items;
        all.into_iter()
            .filter(|slice| slice.labels()["kubernetes.io/service-name"] == "outside")
            .collect::<Vec<_>>()
    };
    eventually("there is a slice", || async {
        let slice = slices().await.pop()?;
        let endpoint = slice.endpoints?.pop()?;
        (endpoint.addresses == ["192.0.2.1"] && slice.ports?[0].port == Some(8080)).then_some(())
    })
    .await;
    cluster.api::<Endpoints>().delete("outside", &DeleteParams::default()).await.unwrap();
    eventually("it goes with them", || async { slices().await.is_empty().then_some(()) }).await;
    cluster.stop().await;
}
