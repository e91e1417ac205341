//! Removing bootstrap tokens that have expired.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Client, ObjectKey, Reconcile, Selection, SharedInformer, WorkQueue, error::is_not_found,
};
use kube::api::{DeleteParams, Preconditions};

use crate::{
    Context,
    context::follow,
    error::{Error, Step},
};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const WORKERS: usize = 1;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let selection = Selection::all::<Secret>().in_namespace(NAMESPACE).fields(format!("type={TYPE}"));
    let tokens = context.informers.select::<Secret>(selection);
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    follow(&tokens, &queue);
    let sync = Arc::new(Sync {
        tokens: tokens.clone(),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
    });
    context.work("token-cleaner-controller", WORKERS, queue, sync, async move { tokens.synced().await })
}

struct Sync {
    tokens: SharedInformer<Secret>,
    client: Client,
    clock: SharedClock,
}

/// How long a token is still valid; `None` if it never expires. One whose expiry cannot be read is expired.
fn left(token: &Secret, now: Timestamp) -> Option<Duration> {
    let expiration = &token.data.as_ref()?.get("expiration")?.0;
    let expires = std::str::from_utf8(expiration).ok().and_then(|text| text.parse::<Timestamp>().ok());
    let left = expires.map(|expires| Duration::try_from(expires.duration_since(now)).unwrap_or_default());
    Some(left.unwrap_or_default())
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(token) = self.tokens.get_key(key) else { return Ok(Action::Done) };
        let Some(left) = left(&token, self.clock.now()) else { return Ok(Action::Done) };
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        let this_one = Preconditions { uid: token.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
        match Api::<Secret>::namespaced(self.client.clone(), &key.namespace)
            .delete(&key.name, &parameters)
            .await
        {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step("delete token", &key.name)?),
        }
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn a_token_expires_when_it_says_and_at_once_when_it_says_nonsense() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let token = |text: &str| Secret {
            data: Some([("expiration".to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        assert_eq!(left(&token("2026-01-01T00:01:00Z"), now), Some(Duration::from_secs(60)));
        assert_eq!(left(&token("2025-01-01T00:00:00+02:00"), now), Some(Duration::ZERO));
        assert_eq!(left(&token("soon"), now), Some(Duration::ZERO));
        assert_eq!(left(&Secret::default(), now), None);
    }
}
