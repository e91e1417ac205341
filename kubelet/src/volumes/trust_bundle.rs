//! clusterTrustBundle projections: one bundle by name, or all of a signer by labels, as one PEM file.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use knarr_client::Api;
use kube::api::ListParams;
use kube::core::{Selector, SelectorExt};

use super::VolumeError;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

pub async fn read(
    client: &kube::Client,
    source: &ClusterTrustBundleProjection,
) -> Result<String, VolumeError> {
    let api: Api<ClusterTrustBundle> = Api::all(client.clone());
    let optional = source.optional.unwrap_or(false);
    let failed = |error: kube::Error| VolumeError::Api(error.to_string());
    let bundles = if let Some(name) = source.name.as_deref().filter(|name| !name.is_empty()) {
        match api.get_opt(name).await.map_err(failed)? {
            Some(bundle) => vec![bundle],
            None if optional => Vec::new(),
            None => return Err(VolumeError::Invalid(format!("clustertrustbundle \"{name}\" not found"))),
        }
    } else {
        let signer = source.signer_name.as_deref().unwrap_or_default();
        let parameters = ListParams::default().fields(&format!("spec.signerName={signer}"));
        let found = api.list(&parameters).await.map_err(failed)?.items;
        // An absent selector matches nothing, an empty one everything.
        let matching: Vec<_> = match source.label_selector.clone() {
            None => Vec::new(),
            Some(selector) => {
                let selector: Selector =
                    selector.try_into().map_err(|error| VolumeError::Invalid(format!("{error}")))?;
                let labels = |bundle: &ClusterTrustBundle| bundle.metadata.labels.clone().unwrap_or_default();
                found.into_iter().filter(|bundle| selector.matches(&labels(bundle))).collect()
            }
        };
        if matching.is_empty() && !optional {
            return Err(VolumeError::Invalid(format!(
                "combination of signerName={signer:?} and labelSelector matched zero ClusterTrustBundles"
            )));
        }
        matching
    };
    Ok(join(bundles.iter().map(|bundle| bundle.spec.trust_bundle.as_str())))
}

/// Each certificate once, in a stable order.
fn join<'a>(bundles: impl Iterator<Item = &'a str>) -> String {
    let mut certificates = BTreeSet::new();
    for bundle in bundles {
        let mut rest = bundle;
        while let Some(at) = rest.find(BEGIN) {
            let Some(end) = rest[at..].find(END) else { break };
            certificates.insert(rest[at..at + end + END.len()].to_owned());
            rest = &rest[at + end + END.len()..];
        }
    }
    certificates.into_iter().map(|certificate| certificate + "\n").collect()
}
