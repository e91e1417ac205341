//! Whom to trust as the API server: one ClusterTrustBundle with the root certificate, for pods that project it.

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use knarr_client::{
    Action, Api, Client, ObjectKey, Reconcile, Selection, SharedInformer,
    error::{is_already_exists, is_not_found},
};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use sha2::{Digest, Sha256};

use crate::{
    Context,
    error::{Error, Step},
};

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
/// Bytes of the content's digest in the name.
const DIGEST: usize = 12;

/// Publishes the configured certificate; does nothing if there is none.
pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let Some(certificate) = context.config.root_ca.clone() else { return futures::future::ready(()).boxed() };
    let mut wiring = context.wire("ca_cert_publisher_cluster_trust_bundles");
    let of_signer = Selection::all::<ClusterTrustBundle>().fields(format!("spec.signerName={SIGNER}"));
    let bundles = wiring.select::<ClusterTrustBundle>(of_signer);
    let wanted = bundle(&certificate);
    let key = ObjectKey::cluster(&*wanted.name);
    wiring.queue().add(key.clone());
    wiring.on(&bundles, move |_| [key.clone()]);
    wiring.run(1, Publisher { bundles, client: context.client, wanted })
}

struct Wanted {
    name: String,
    certificate: String,
}

/// The name tells the content: who reads one bundle never sees half of a change to another.
fn bundle(certificate: &str) -> Wanted {
    let digest = Sha256::digest(certificate);
    let digest: String = digest[..DIGEST].iter().map(|byte| format!("{byte:02x}")).collect();
    Wanted { name: format!("{}:{digest}", SIGNER.replace('/', ":")), certificate: certificate.to_owned() }
}

struct Publisher {
    bundles: SharedInformer<ClusterTrustBundle>,
    client: Client,
    wanted: Wanted,
}

impl Reconcile for Publisher {
    type Key = ObjectKey;
    type Error = Error;

    /// The wanted bundle first, so that there is always one; then its predecessors go.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let api = Api::<ClusterTrustBundle>::all(self.client.clone());
        self.publish(&api, key).await?;
        for other in self.bundles.list() {
            let name = other.metadata.name.as_deref().unwrap_or_default();
            if name == self.wanted.name {
                continue;
            }
            match api.delete(name, &DeleteParams::default()).await {
                Err(error) if is_not_found(&error) => {}
                other => drop(other.step("delete cluster trust bundle", name)?),
            }
        }
        Ok(Action::Done)
    }
}

impl Publisher {
    async fn publish(&self, api: &Api<ClusterTrustBundle>, key: &ObjectKey) -> Result<(), Error> {
        let Wanted { name, certificate } = &self.wanted;
        let Some(known) = self.bundles.get_key(key) else {
            let spec = ClusterTrustBundleSpec {
                signer_name: Some(SIGNER.to_owned()),
                trust_bundle: certificate.clone(),
            };
            let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
            return match api.create(&PostParams::default(), &ClusterTrustBundle { metadata, spec }).await {
                // The cache has not heard of it yet; when it does, the key comes again.
                Err(error) if is_already_exists(&error) => Ok(()),
                other => other.step("create cluster trust bundle", name).map(drop),
            };
        };
        if known.spec.trust_bundle != *certificate {
            let mut corrected = (*known).clone();
            corrected.spec.trust_bundle.clone_from(certificate);
            api.replace(name, &PostParams::default(), &corrected)
                .await
                .step("update cluster trust bundle", name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_signers_with_a_digest_of_the_content() {
        let name = bundle("certificate").name;
        assert_eq!(name, "kubernetes.io:kube-apiserver-serving:03d66dd08835c1ca3f128cce");
        assert_ne!(name, bundle("another").name);
    }
}
