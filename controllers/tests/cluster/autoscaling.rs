use k8s_openapi::api::{
    apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Event,
    resource::v1::ResourceClaim,
};
use kube::api::ListParams;
use serde_json::json;

use crate::{
    deployments::deployment,
    harness::{Cluster, NAMESPACE, eventually},
};

#[tokio::test(start_paused = true)]
async fn an_autoscaler_keeps_its_target_in_range_and_says_why_it_cannot_measure() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 1)).await;
    let scaler = json!({
        "metadata": { "name": "web" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "minReplicas": 3, "maxReplicas": 5,
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": "queue" }, "target": { "type": "AverageValue", "averageValue": "10" },
            } }],
        },
    });
    cluster.create::<HorizontalPodAutoscaler>(NAMESPACE, scaler).await;
    eventually("the target has as many as it must", || async {
        (cluster.api::<Deployment>().get("web").await.unwrap().spec.replicas == Some(3)).then_some(())
    })
    .await;
    let status = eventually("the autoscaler says that nothing can be measured", || async {
        let status = cluster.api::<HorizontalPodAutoscaler>().get("web").await.unwrap().status?;
        let active =
            status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "ScalingActive")?;
        (active.reason.as_deref() == Some("FailedGetExternalMetric")).then_some(status)
    })
    .await;
    assert_eq!(status.current_replicas, Some(3));
    eventually("it told of the change", || async {
        let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap();
        let text = "New size: 3; reason: Current number of replicas below Spec.MinReplicas";
        events.iter().any(|event| event.message.as_deref() == Some(text)).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_the_claim_it_wants_made() {
    let cluster = Cluster::start().await;
    let template = json!({
        "metadata": { "name": "gpu" },
        "spec": { "spec": { "devices": { "requests": [
            { "name": "one", "exactly": { "deviceClassName": "gpu.example.com" } },
        ] } } },
    });
    cluster.create::<k8s_openapi::api::resource::v1::ResourceClaimTemplate>(NAMESPACE, template).await;
    let pod = json!({
        "metadata": { "name": "worker" },
        "spec": {
            "containers": [{ "name": "main", "image": "x" }],
            "resourceClaims": [{ "name": "device", "resourceClaimTemplateName": "gpu" }],
        },
    });
    cluster.create::<k8s_openapi::api::core::v1::Pod>(NAMESPACE, pod).await;
    let name = eventually("the pod knows its claim", || async {
        let pod = cluster.api::<k8s_openapi::api::core::v1::Pod>().get("worker").await.unwrap();
        pod.status?.resource_claim_statuses?.pop()?.resource_claim_name
    })
    .await;
    assert!(name.starts_with("worker-device-"));
    let claim = cluster.api::<ResourceClaim>().get(&name).await.unwrap();
    assert_eq!(claim.metadata.owner_references.unwrap()[0].name, "worker");
    cluster.stop().await;
}
