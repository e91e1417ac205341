use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, ClusterTrustBundle},
        core::v1::{Secret, ServiceAccount},
        networking::v1::ServiceCIDR,
    },
};
use knarr_client::Api;
use knarr_controllers::{Config, SigningAuthority, TokenSigner};
use kube::api::{DeleteParams, ListParams, PostParams};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::harness::{Cluster, NAMESPACE, eventually};

fn authority() -> SigningAuthority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    SigningAuthority {
        certificate_pem: params.self_signed(&key).unwrap().pem(),
        key_pem: key.serialize_pem(),
        lifetime: Duration::from_secs(3600),
    }
}

#[tokio::test(start_paused = true)]
async fn an_approved_request_is_signed() {
    let cluster = Cluster::with(Config { signing: Some(authority()), ..Config::default() }).await;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "jane");
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let request = json!({
        "metadata": { "name": "jane" },
        "spec": {
            "request": ByteString(request.into_bytes()),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    });
    let mut made = cluster.create::<CertificateSigningRequest>("", request).await;
    let api = Api::<CertificateSigningRequest>::all(cluster.client.clone());
    let approval = json!({ "conditions": [{
        "type": "Approved", "status": "True", "reason": "Test", "message": "by hand",
    }] });
    made.status = serde_json::from_value(approval).unwrap();
    api.replace_subresource("approval", "jane", &PostParams::default(), &made).await.unwrap();
    let certificate =
        eventually("it is signed", || async { api.get("jane").await.unwrap().status?.certificate }).await;
    assert!(certificate.0.starts_with(b"-----BEGIN CERTIFICATE-----"));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    eventually("it is removed after an hour", || async {
        api.get_opt("jane").await.unwrap().is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}

struct Echo;

impl TokenSigner for Echo {
    fn sign(&self, claims: &Value) -> Result<String, String> {
        Ok(claims["sub"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_secret_is_filled_and_goes_with_its_account() {
    let config = Config {
        token_signer: Some(Arc::new(Echo)),
        root_ca: Some("certificate".to_owned()),
        ..Config::default()
    };
    let cluster = Cluster::with(config).await;
    cluster.create::<ServiceAccount>(NAMESPACE, json!({ "metadata": { "name": "bot" } })).await;
    let secret = json!({
        "metadata": { "name": "bot", "annotations": { "kubernetes.io/service-account.name": "bot" } },
        "type": "kubernetes.io/service-account-token",
    });
    cluster.create::<Secret>(NAMESPACE, secret).await;
    let secrets = cluster.api::<Secret>();
    let data = eventually("it has a token", || async {
        secrets.get("bot").await.unwrap().data.filter(|data| data.contains_key("token"))
    })
    .await;
    assert_eq!(data["token"].0, b"system:serviceaccount:shop:bot");
    assert_eq!((&*data["namespace"].0, &*data["ca.crt"].0), (&b"shop"[..], &b"certificate"[..]));
    cluster.api::<ServiceAccount>().delete("bot", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", || async { secrets.get_opt("bot").await.unwrap().is_none().then_some(()) })
        .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_range_is_ready_and_can_go_when_nothing_is_in_it() {
    let cluster = Cluster::start().await;
    let range = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["192.0.2.0/24"] } });
    cluster.create::<ServiceCIDR>("", range).await;
    let ranges = Api::<ServiceCIDR>::all(cluster.client.clone());
    eventually("it is ready", || async {
        let conditions = ranges.get("more").await.unwrap().status?.conditions?;
        conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True").then_some(())
    })
    .await;
    ranges.delete("more", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", || async { ranges.get_opt("more").await.unwrap().is_none().then_some(()) })
        .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_root_is_published_as_the_only_trust_bundle_of_its_signer() {
    const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
    let root = authority().certificate_pem;
    let cluster = Cluster::with(Config { root_ca: Some(root.clone()), ..Config::default() }).await;
    let bundles = Api::<ClusterTrustBundle>::all(cluster.client.clone());
    let of_signer = ListParams::default().fields(&format!("spec.signerName={SIGNER}"));
    let published = async || {
        let mut found = bundles.list(&of_signer).await.unwrap().items;
        found.retain(|bundle| bundle.metadata.deletion_timestamp.is_none());
        let [bundle] = &*found else { return None };
        Some(bundle.clone()).filter(|bundle| bundle.spec.trust_bundle == root)
    };
    let bundle = eventually("it is published", &published).await;
    let name = bundle.metadata.name.unwrap();
    assert!(name.starts_with("kubernetes.io:kube-apiserver-serving:"), "{name}");
    let outdated = json!({
        "metadata": { "name": "kubernetes.io:kube-apiserver-serving:outdated" },
        "spec": { "signerName": SIGNER, "trustBundle": authority().certificate_pem },
    });
    cluster.create::<ClusterTrustBundle>("", outdated).await;
    eventually("the outdated one is removed", &published).await;
    bundles.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("it is put back", &published).await;
    cluster.stop().await;
}
