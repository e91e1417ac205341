use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::{
    deployments::deployment,
    harness::{Cluster, NAMESPACE, eventually},
};

#[tokio::test(start_paused = true)]
async fn ready_pods_are_behind_their_service_and_go_with_it() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 3)).await;
    let service = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
    });
    cluster.create::<Service>(NAMESPACE, service).await;
    let slice = eventually("three endpoints are ready", || async {
        let slices = cluster.api::<EndpointSlice>().list(&ListParams::default()).await.unwrap().items;
        let ready = |slice: &EndpointSlice| {
            let endpoints = slice.endpoints.iter().flatten();
            endpoints.filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(true)).count()
        };
        slices.into_iter().find(|slice| ready(slice) == 3)
    })
    .await;
    assert_eq!(slice.ports.unwrap()[0].port, Some(8080));
    let endpoints = eventually("so do the older endpoints", || async {
        let endpoints = cluster.api::<Endpoints>().get_opt("web").await.unwrap()?;
        let subset = endpoints.subsets?.into_iter().next()?;
        (subset.addresses.as_ref()?.len() == 3).then_some(subset)
    })
    .await;
    assert_eq!(endpoints.ports.unwrap()[0].port, 8080);
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    eventually("both are gone", || async {
        let slices = cluster.api::<EndpointSlice>().list(&ListParams::default()).await.unwrap().items;
        let endpoints = cluster.api::<Endpoints>().get_opt("web").await.unwrap();
        (slices.is_empty() && endpoints.is_none()).then_some(())
    })
    .await;
    cluster.stop().await;
}
