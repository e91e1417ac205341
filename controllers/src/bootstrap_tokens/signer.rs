//! Signing the public `cluster-info` with every bootstrap token that may sign.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Client, ObjectKey, Reconcile, Selection, SharedInformer,
    error::{is_conflict, is_not_found},
};
use kube::api::PostParams;

use super::{left, value};
use crate::{
    Context,
    error::{Error, Step},
};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
const WORKERS: usize = 1;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("bootstrap_signer_queue");
    let tokens = wiring.select::<Secret>(super::tokens());
    let selection =
        Selection::all::<ConfigMap>().in_namespace(NAMESPACE).fields(format!("metadata.name={NAME}"));
    let infos = wiring.select::<ConfigMap>(selection);
    wiring.on(&tokens, |_| [ObjectKey::new(NAMESPACE, NAME)]);
    wiring.follow(&infos);
    wiring.run(WORKERS, Sync { tokens, infos, client: context.client, clock: context.clock })
}

struct Sync {
    tokens: SharedInformer<Secret>,
    infos: SharedInformer<ConfigMap>,
    client: Client,
    clock: SharedClock,
}

/// The id and the secret of a token that may sign.
fn signing(token: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let (id, secret) = (value(token, "token-id"), value(token, "token-secret"));
    let named = token.metadata.name.as_deref()?.strip_prefix("bootstrap-token-")?;
    let expired = left(token, now).is_some_and(|left| left.is_zero());
    let may = value(token, "usage-bootstrap-signing") == "true";
    (named == id && !id.is_empty() && !secret.is_empty() && may && !expired).then_some((id, secret))
}

/// A JWS of the content without the content, so that it can stand beside it.
fn signature(content: &str, id: &str, secret: &str) -> Result<String, Error> {
    let header = serde_json::json!({ "alg": "HS256", "kid": id }).to_string();
    let header = URL_SAFE_NO_PAD.encode(header);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256)
        .map_err(|error| Error::Unusable(format!("cannot sign with token {id}: {error}")))?;
    Ok(format!("{header}..{signature}"))
}

/// The data with a signature of every token, and none of others; `None` if there is nothing to sign.
fn sign(
    data: &BTreeMap<String, String>,
    tokens: &[Arc<Secret>],
    now: Timestamp,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    let Some(content) = data.get(CONTENT) else { return Ok(None) };
    let mut signed: BTreeMap<_, _> = data
        .iter()
        .filter(|(key, _)| !key.starts_with(SIGNATURE))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (id, secret) in tokens.iter().filter_map(|token| signing(token, now)) {
        signed.insert(format!("{SIGNATURE}{id}"), signature(content, id, secret)?);
    }
    Ok(Some(signed))
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(info) = self.infos.get_key(key) else { return Ok(Action::Done) };
        let now = self.clock.now();
        let Some(signed) = sign(&info.data.clone().unwrap_or_default(), &self.tokens.list(), now)? else {
            return Ok(Action::Done);
        };
        if Some(&signed) != info.data.as_ref() {
            let mut updated = (*info).clone();
            updated.data = Some(signed);
            let api = Api::<ConfigMap>::namespaced(self.client.clone(), NAMESPACE);
            match api.replace(NAME, &PostParams::default(), &updated).await {
                // Its change comes back to us.
                Err(error) if is_not_found(&error) || is_conflict(&error) => {}
                other => drop(other.step("sign", NAME)?),
            }
        }
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn token(id: &str, may_sign: &str) -> Arc<Secret> {
        let data =
            [("token-id", id), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-signing", may_sign)];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
        let mut token = Secret { data: Some(data.into()), ..Secret::default() };
        token.metadata.name = Some(format!("bootstrap-token-{id}"));
        Arc::new(token)
    }

    #[test]
    fn signatures_are_of_the_tokens_there_are() {
        let now = Timestamp::UNIX_EPOCH;
        let data = [(CONTENT.to_owned(), "who".to_owned()), (format!("{SIGNATURE}gone00"), "x".to_owned())];
        let tokens = [token("abcdef", "true"), token("fedcba", "false")];
        let signed = sign(&data.into(), &tokens, now).unwrap().unwrap();
        assert_eq!(signed.keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "kubeconfig"]);
        let header = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9";
        assert!(signed["jws-kubeconfig-abcdef"].starts_with(&format!("{header}..")));
        assert_eq!(sign(&BTreeMap::new(), &tokens, now).unwrap(), None);
    }
}
