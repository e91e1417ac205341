//! ComponentStatuses: deprecated, and still asked for.

use async_trait::async_trait;
use knarr_api::status::Status;
use serde_json::{Value, json};

use crate::catalogue::Computed;
use crate::context::RequestContext;

/// Components that run in this process are healthy as long as they answer for themselves by running; the store is
/// asked.
pub struct ComponentStatuses;

const COMPONENTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

#[async_trait]
impl Computed for ComponentStatuses {
    async fn compute(&self, cx: &RequestContext, name: Option<&str>) -> Result<Vec<Value>, Status> {
        let store = cx.registry.store.revision().await;
        let shown = COMPONENTS.iter().filter(|known| name.is_none_or(|name| name == **known)).map(|known| {
            let condition = match &store {
                Err(error) if known.starts_with("etcd") => {
                    json!({"type": "Healthy", "status": "False", "message": error.to_string()})
                }
                _ => json!({"type": "Healthy", "status": "True", "message": "ok"}),
            };
            json!({"metadata": {"name": known}, "conditions": [condition]})
        });
        Ok(shown.collect())
    }
}
