//! Services: their cluster addresses and node ports are claimed from the cluster's pools.

pub mod addresses;
mod allocate;
mod defaults;
mod retype;
mod validate;

use async_trait::async_trait;
use knarr_api::field::ErrorList;
use knarr_api::status::Status;
use serde_json::{Value, json};

use crate::registry::{Context, Strategy, Undo};

pub use validate::balancer_status;

pub struct Service;

#[async_trait]
impl Strategy for Service {
    fn set_defaults(&self, object: &mut Value) {
        defaults::set(object);
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"loadBalancer": {}});
    }

    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        retype::drop_unneeded(object, old);
    }

    fn warnings(&self, _: &Context<'_>, object: &Value, _: Option<&Value>) -> Vec<String> {
        validate::warnings(object)
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate::service(object, None)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        validate::update(object, old)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        validate::status_update(object, old)
    }

    async fn begin_create(&self, cx: &Context<'_>, object: &mut Value) -> Result<Undo, Status> {
        allocate::begin(cx, object, None).await
    }

    async fn begin_update(&self, cx: &Context<'_>, object: &mut Value, old: &Value) -> Result<Undo, Status> {
        retype::follow_single_address(object, old);
        allocate::keep_allocated(object, old);
        allocate::begin(cx, object, Some(old)).await
    }

    async fn after_change(&self, cx: &Context<'_>, object: Option<&Value>, old: &Value) {
        allocate::release_dropped(cx, object, old).await;
    }
}
