//! Secrets of type `kubernetes.io/service-account-token`: filled with a token that does not end, and removed with
//! their account.

use std::{fmt, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use knarr_client::{
    Action, Api, Cached, Change, Client, ObjectKey, Reconcile, Selection, SharedInformer,
    error::{is_conflict, is_not_found},
};
use kube::api::{DeleteParams, PostParams, Preconditions};
use serde_json::{Value, json};

use super::TokenSigner;
use crate::{
    Context,
    error::{Error, Step},
};

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// Who tokens of this kind say they are from.
const ISSUER: &str = "kubernetes/serviceaccount";
const WORKERS: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A Secret and the account it names.
    Secret {
        secret: ObjectKey,
        account: Arc<str>,
    },
    Account {
        account: ObjectKey,
        uid: Arc<str>,
    },
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { secret, .. } => write!(f, "secret {secret}"),
            Self::Account { account, .. } => write!(f, "service account {account}"),
        }
    }
}

/// Does nothing if there is no key to sign with.
pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let Some(signer) = context.config.token_signer.clone() else { return futures::future::ready(()).boxed() };
    let mut wiring = context.wire("serviceaccount_tokens_service");
    let secrets = wiring.select::<Secret>(Selection::all::<Secret>().fields(format!("type={TYPE}")));
    let accounts = wiring.cache::<ServiceAccount>();
    wiring.on(&secrets, |change| {
        let secret = change.object();
        let account = annotation(secret, NAME).filter(|name| !name.is_empty())?;
        Some(Key::Secret { secret: ObjectKey::of(&**secret), account: account.into() })
    });
    wiring.on(&accounts, |change| {
        let Change::Deleted { last, .. } = change else { return None };
        Some(Key::Account { account: ObjectKey::of(&***last), uid: last.uid().into() })
    });
    let root_ca = context.config.root_ca.clone();
    wiring.run(WORKERS, Sync { secrets, accounts, signer, root_ca, client: context.client })
}

struct Sync {
    secrets: SharedInformer<Secret>,
    accounts: SharedInformer<ServiceAccount>,
    signer: Arc<dyn TokenSigner>,
    root_ca: Option<String>,
    client: Client,
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether a Secret is a token of this account.
fn is_token_of(secret: &Secret, name: &str, uid: &str) -> bool {
    annotation(secret, NAME) == Some(name)
        && annotation(secret, UID).is_none_or(|known| known.is_empty() || known == uid)
}

fn claims(account: &ServiceAccount, secret: &Secret) -> Value {
    let (namespace, name) = (account.namespace(), account.name());
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret.name(),
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
    })
}

/// Completes a Secret; whether there was anything to do.
fn fill(
    secret: &mut Secret,
    account: &ServiceAccount,
    root_ca: Option<&str>,
    sign: impl FnOnce(&Value) -> Result<String, String>,
) -> Result<bool, String> {
    let (claims, namespace) = (claims(account, secret), secret.namespace().to_owned());
    let data = secret.data.get_or_insert_default();
    let before = data.clone();
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    if let Some(certificate) = root_ca.filter(|certificate| !certificate.is_empty()) {
        data.insert("ca.crt".to_owned(), bytes(certificate));
    }
    if data.get("namespace").is_none_or(|value| value.0.is_empty()) {
        data.insert("namespace".to_owned(), bytes(&namespace));
    }
    if data.get("token").is_none_or(|value| value.0.is_empty()) {
        data.insert("token".to_owned(), bytes(&sign(&claims)?));
    }
    let changed = *data != before;
    if changed {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(NAME.to_owned(), account.name().to_owned());
        annotations.insert(UID.to_owned(), account.uid().to_owned());
    }
    Ok(changed)
}

impl Reconcile for Sync {
    type Key = Key;
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Action, Error> {
        match key {
            Key::Account { account, uid } => self.account_gone(account, uid).await?,
            Key::Secret { secret, account } => match self.secrets.get_key(secret) {
                Some(found) => self.check(&found).await?,
                None => self.forget(secret, account).await?,
            },
        }
        Ok(Action::Done)
    }
}

impl Sync {
    fn secrets_api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn account_gone(&self, account: &ObjectKey, uid: &str) -> Result<(), Error> {
        for secret in self.secrets.in_namespace(&account.namespace) {
            if is_token_of(&secret, &account.name, uid) && annotation(&secret, UID).is_some() {
                self.delete(&secret).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, secret: &Secret) -> Result<(), Error> {
        let this_one = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
        match self.secrets_api(secret.namespace()).delete(secret.name(), &parameters).await {
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            other => other.map(drop).step("delete token secret", secret.name()),
        }
    }

    /// A Secret that is there: its account must be too, and then it is completed.
    async fn check(&self, cached: &Secret) -> Result<(), Error> {
        let Some(account) = self.account_of(cached).await? else { return self.delete(cached).await };
        let mut wanted = cached.clone();
        // Most Secrets are complete: that is told without a signature.
        if !fill(&mut wanted, &account, self.root_ca.as_deref(), |_| Ok("unsigned".to_owned()))
            .map_err(Error::Unusable)?
        {
            return Ok(());
        }
        let api = self.secrets_api(cached.namespace());
        let fresh = api.get_opt(cached.name()).await.step("get secret", cached.name())?;
        // Its change is on its way to us.
        let Some(mut fresh) = fresh.filter(|fresh| fresh.resource_version() == cached.resource_version())
        else {
            return Ok(());
        };
        fill(&mut fresh, &account, self.root_ca.as_deref(), |claims| self.signer.sign(claims)).map_err(
            |error| Error::Unusable(format!("cannot sign a token for {}: {error}", account.name())),
        )?;
        match api.replace(cached.name(), &PostParams::default(), &fresh).await {
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            other => other.map(drop).step("fill token secret", cached.name()),
        }
    }

    /// The account a Secret names, asked of the server when the cache does not have it: it may be new.
    async fn account_of(&self, secret: &Secret) -> Result<Option<Arc<ServiceAccount>>, Error> {
        let name = annotation(secret, NAME).unwrap_or_default();
        let is_it = |account: &ServiceAccount| is_token_of(secret, name, account.uid());
        if let Some(known) = self.accounts.get(secret.namespace(), name).filter(|known| is_it(known)) {
            return Ok(Some(known));
        }
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), secret.namespace());
        let fresh = api.get_opt(name).await.step("get service account", name)?;
        Ok(fresh.filter(is_it).map(Arc::new))
    }

    /// A Secret that is gone is not listed by its account any more.
    async fn forget(&self, secret: &ObjectKey, account: &str) -> Result<(), Error> {
        let lists = |account: &ServiceAccount| {
            account.secrets.iter().flatten().any(|listed| listed.name.as_deref() == Some(&*secret.name))
        };
        if !self.accounts.get(&secret.namespace, account).is_some_and(|account| lists(&account)) {
            return Ok(());
        }
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &secret.namespace);
        let fresh = api.get_opt(account).await.step("get service account", account)?;
        let Some(mut fresh) = fresh.filter(lists) else { return Ok(()) };
        if let Some(listed) = &mut fresh.secrets {
            listed.retain(|listed| listed.name.as_deref() != Some(&*secret.name));
        }
        match api.replace(account, &PostParams::default(), &fresh).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update service account", account),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_completed_once() {
        let mut account = ServiceAccount::default();
        (account.metadata.name, account.metadata.namespace) = (Some("bot".into()), Some("ns".into()));
        account.metadata.uid = Some("u1".into());
        let mut secret = Secret::default();
        (secret.metadata.name, secret.metadata.namespace) = (Some("bot-token".into()), Some("ns".into()));
        let sign = |claims: &Value| Ok(claims["sub"].as_str().unwrap_or_default().to_owned());
        assert!(fill(&mut secret, &account, Some("ca"), sign).unwrap());
        let data = secret.data.clone().unwrap();
        let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        assert_eq!([text("ca.crt"), text("namespace")], ["ca", "ns"]);
        assert_eq!(text("token"), "system:serviceaccount:ns:bot");
        assert!(is_token_of(&secret, "bot", "u1") && !is_token_of(&secret, "bot", "u2"));
        assert!(!fill(&mut secret, &account, Some("ca"), sign).unwrap());
        assert!(fill(&mut secret, &account, Some("new"), sign).unwrap(), "a new certificate is handed on");
    }
}
