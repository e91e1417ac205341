//! Many simulated nodes in one component: no kubelet each, but one watch on pods, one clock for leases, and rules
//! for what pods do. An idle node costs nothing here but its turn to renew a lease; all else is in the API server.
//!
//! The rules: a pod that comes to a node runs at once. It runs until it is deleted, or, if its annotation
//! [`super::RUN_SECONDS`] says so, for that long; then it ends with the code that the annotation gives, and its
//! restart policy decides what follows. A pod that is to go is gone at once.

mod lease;
mod node;
mod pod;
mod status;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use http::{Method, Request};
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::{InformerFactory, Selection};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use pod::Pods;

/// Requests under way at once, of each part.
const CONCURRENCY: usize = 32;

/// Nodes that are not there, and that nobody can tell from others through the API.
pub struct Fleet {
    api: Api,
    clock: SharedClock,
    random: SharedRandom,
    nodes: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("registering simulated node {name}: {cause}")]
    Register { name: String, cause: kube::Error },
}

/// Requests as JSON.
#[derive(Clone)]
struct Api(kube::Client);

impl Api {
    async fn send(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<(), kube::Error> {
        self.ask::<IgnoredAny>(method, path, kind, body).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<T, kube::Error> {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(body.to_string().into_bytes()).map_err(kube::Error::HttpError)?;
        self.0.request(request).await
    }
}

/// A condition of a node or a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
}

impl Condition {
    fn is_ready(&self) -> bool {
        &*self.kind == "Ready"
    }

    fn holds(&self) -> bool {
        &*self.status == "True"
    }
}

fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Nodes are numbered from 0.
fn node_name(number: u32) -> String {
    format!("sim-{number}")
}

/// The number of a node, if it is one of these.
fn number_of(node: &str, nodes: u32) -> Option<u32> {
    let number = node.strip_prefix("sim-")?.parse().ok()?;
    (number < nodes && node_name(number) == node).then_some(number)
}

impl Fleet {
    /// `client` must be allowed to write nodes, their leases and any pod.
    pub fn new(client: kube::Client, nodes: u32, clock: SharedClock, random: SharedRandom) -> Self {
        Self { api: Api(client), clock, random, nodes }
    }

    /// Makes all nodes, Ready from the start.
    ///
    /// # Errors
    /// If a node could not be made; those before it stay.
    pub async fn register(&self) -> Result<(), FleetError> {
        let make = |number: u32| async move {
            node::register(&self.api, number, &self.clock)
                .await
                .map_err(|cause| FleetError::Register { name: node_name(number), cause })
        };
        let mut made = stream::iter(0..self.nodes).map(make).buffer_unordered(CONCURRENCY);
        while let Some(outcome) = made.next().await {
            outcome?;
        }
        Ok(())
    }

    /// Runs pods and renews leases until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let informers = InformerFactory::new(self.api.0.clone(), self.random.clone());
        let bound = Selection::of("", "v1", "pods").fields("spec.nodeName!=");
        let pods =
            Arc::new(Pods::new(informers.select(bound), self.api.clone(), self.clock.clone(), self.nodes));
        let running = pods.clone().run(shutdown.clone());
        let nodes = informers.select(Selection::of("", "v1", "nodes").labels("type=simulated"));
        informers.start();
        let contradicting = node::contradict(&self.api, &nodes, self.nodes, &self.clock);
        let leases = lease::renew_all(&self.api, self.nodes, &self.clock);
        tokio::join!(running, async {
            shutdown.run_until_cancelled(async { tokio::join!(leases, contradicting) }).await;
        });
        informers.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_given_are_recognised() {
        assert_eq!(number_of("sim-7", 8), Some(7));
        for other in ["sim-8", "sim-07", "sim-", "node", "sim-x", "sim-+1"] {
            assert_eq!(number_of(other, 8), None, "{other}");
        }
    }
}
