//! Making join tokens: a bootstrap token in kube-system, and this cluster's fingerprint.

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use knarr_apiserver::pki::{Authority, Pin, provider};
use knarr_client::{Api, Client};
use kube::api::{ObjectMeta, PostParams};

use super::agent::token::JoinToken;

/// The group that `manifests/joining.yaml` lets ask for certificates.
const GROUP: &str = "system:bootstrappers:knarr:nodes";
const KIND: &str = "bootstrap.kubernetes.io/token";
/// What tokens are made of.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Makes a token that ends after `ttl`.
pub async fn create(
    client: &Client,
    authority: &Authority,
    now: Timestamp,
    ttl: SignedDuration,
) -> anyhow::Result<JoinToken> {
    let pin = Pin::of(authority.der()).context("the cluster's authority is no certificate")?;
    let token = JoinToken { id: secret_text(6)?, secret: secret_text(16)?, pin };
    let expiration = now.checked_add(ttl).context("the token's time to live")?;
    let expiration = Timestamp::from_second(expiration.as_second())?.to_string();
    let data = [
        ("token-id", token.id.as_str()),
        ("token-secret", token.secret.as_str()),
        ("expiration", expiration.as_str()),
        ("usage-bootstrap-authentication", "true"),
        ("auth-extra-groups", GROUP),
        ("description", "lets machines join"),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(format!("bootstrap-token-{}", token.id)),
            namespace: Some("kube-system".to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(KIND.to_owned()),
        string_data: Some(data.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    secrets.create(&PostParams::default(), &secret).await.context("keeping the token")?;
    Ok(token)
}

/// Letters nobody can guess. A token is a key, so chance is the cryptographic kind and not the injected one.
fn secret_text(length: usize) -> anyhow::Result<String> {
    let random = provider().secure_random;
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 32];
    while text.len() < length {
        random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the machine gives no random numbers"))?;
        // A byte that would favour the first letters is left out.
        let fair = bytes
            .iter()
            .map(|byte| usize::from(*byte))
            .filter(|byte| *byte < 256 / LETTERS.len() * LETTERS.len());
        text.extend(fair.map(|byte| char::from(LETTERS[byte % LETTERS.len()])).take(length - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_the_form_that_tokens_want_and_differ() {
        let (a, b) = (secret_text(16).expect("random"), secret_text(16).expect("random"));
        assert!(a.len() == 16 && a.bytes().all(|byte| LETTERS.contains(&byte)), "{a}");
        assert_ne!(a, b);
    }
}
