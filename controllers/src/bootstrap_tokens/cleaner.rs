//! Removing bootstrap tokens that have expired.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use knarr_api::time::SharedClock;
use knarr_client::{Action, Api, Client, ObjectKey, Reconcile, SharedInformer, error::is_not_found};
use kube::api::{DeleteParams, Preconditions};

use super::left;
use crate::{
    Context,
    error::{Error, Step},
};

const WORKERS: usize = 1;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("token_cleaner");
    let tokens = wiring.select::<Secret>(super::tokens());
    wiring.follow(&tokens);
    wiring.run(WORKERS, Sync { tokens, client: context.client, clock: context.clock })
}

struct Sync {
    tokens: SharedInformer<Secret>,
    client: Client,
    clock: SharedClock,
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
        let api = Api::<Secret>::namespaced(self.client.clone(), &key.namespace);
        match api.delete(&key.name, &parameters).await {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step("delete token", &key.name)?),
        }
        Ok(Action::Done)
    }
}
