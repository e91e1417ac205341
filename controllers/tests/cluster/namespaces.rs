use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use knarr_client::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::harness::{Cluster, NAMESPACE, eventually};

#[tokio::test(start_paused = true)]
async fn every_namespace_has_its_account_and_certificate() {
    let cluster = Cluster::start().await;
    eventually("both are there", || async {
        let account = cluster.api::<ServiceAccount>().get_opt("default").await.unwrap();
        let certificate = cluster.api::<ConfigMap>().get_opt("kube-root-ca.crt").await.unwrap();
        account.and(certificate).filter(|map| map.data.as_ref().unwrap()["ca.crt"] == "certificate")
    })
    .await;
    cluster.api::<ConfigMap>().delete("kube-root-ca.crt", &DeleteParams::default()).await.unwrap();
    eventually("what was deleted comes back", || async {
        cluster.api::<ConfigMap>().get_opt("kube-root-ca.crt").await.unwrap()
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_when_its_content_is_gone_and_says_what_it_waits_for() {
    let cluster = Cluster::start().await;
    let held = json!({ "metadata": { "name": "held", "finalizers": ["example.com/hold"] } });
    cluster.create::<ConfigMap>(NAMESPACE, held).await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await.unwrap();
    eventually("it says what it waits for", || async {
        let status = namespaces.get(NAMESPACE).await.unwrap().status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        conditions.into_iter().find(|condition| {
            condition.message.as_deref()
                == Some("Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances")
        })
    })
    .await;
    let release = json!({ "metadata": { "finalizers": null } });
    cluster.api::<ConfigMap>().patch("held", &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
    eventually("it is gone", || async {
        namespaces.get_opt(NAMESPACE).await.unwrap().is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}
