use k8s_openapi::api::core::v1::Secret;
use knarr_client::Api;
use serde_json::json;

use crate::harness::{Cluster, eventually};

#[tokio::test(start_paused = true)]
async fn an_expired_bootstrap_token_is_removed() {
    let cluster = Cluster::start().await;
    // The first year of this millennium, and the last.
    for (name, expiration) in [
        ("bootstrap-token-aaaaaa", "MjAwMS0wMS0wMVQwMDowMDowMFo="),
        ("bootstrap-token-bbbbbb", "Mjk5OS0wMS0wMVQwMDowMDowMFo="),
    ] {
        let token = json!({
            "metadata": { "name": name },
            "type": "bootstrap.kubernetes.io/token",
            "data": { "expiration": expiration },
        });
        cluster.create::<Secret>("kube-system", token).await;
    }
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), "kube-system");
    eventually("the expired one is gone", || async {
        secrets.get_opt("bootstrap-token-aaaaaa").await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(secrets.get_opt("bootstrap-token-bbbbbb").await.unwrap().is_some());
    cluster.stop().await;
}
