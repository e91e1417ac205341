//! Nothing is created in a namespace that is not there or is going away, and some namespaces stay.

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use knarr_api::status::{Cause, Status, cause};
use knarr_api::time::SharedClock;
use parking_lot::Mutex;
use serde::Deserialize;

use super::lookup::Lookup;
use super::{Admission, Attributes, Operation};
use crate::objects::Resource;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
const NAMESPACES: Resource<'static> = Resource::core("namespaces");
/// How long the cache's word is not taken for a namespace somebody deleted.
const DISTRUST: SignedDuration = SignedDuration::from_secs(30);
const TERMINATING: &str = "Terminating";

pub struct NamespaceLifecycle {
    lookup: Lookup,
    clock: SharedClock,
    deleted: Mutex<HashMap<String, Timestamp>>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    status: Phase,
}

#[derive(Deserialize, Default)]
struct Phase {
    #[serde(default)]
    phase: String,
}

impl NamespaceLifecycle {
    pub fn new(lookup: Lookup, clock: SharedClock) -> Self {
        Self { lookup, clock, deleted: Mutex::default() }
    }

    fn on_namespace(&self, attributes: &Attributes) -> Result<(), Status> {
        if attributes.operation != Operation::Delete || !attributes.subresource.is_empty() {
            return Ok(());
        }
        let name = attributes.name.as_str();
        if IMMORTAL.contains(&name) {
            return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
        }
        let now = self.clock.now();
        let mut deleted = self.deleted.lock();
        deleted.retain(|_, until| now < *until);
        if let Ok(until) = now.checked_add(DISTRUST) {
            deleted.insert(name.to_owned(), until);
        }
        Ok(())
    }

    async fn namespace(&self, name: &str) -> Result<Namespace, Status> {
        let distrusted = self.deleted.lock().get(name).is_some_and(|until| self.clock.now() < *until);
        let found = match distrusted {
            true => self.lookup.live(NAMESPACES, "", name).await?,
            false => self.lookup.get(NAMESPACES, "", name).await?,
        };
        found.ok_or_else(|| Status::not_found("", "namespaces", name))
    }
}

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if attributes.is_resource("", "namespaces") {
            return self.on_namespace(attributes);
        }
        // An access review must not tell whether a namespace exists.
        let review = attributes.is_resource("authorization.k8s.io", "localsubjectaccessreviews");
        if attributes.namespace.is_empty() || attributes.operation == Operation::Delete || review {
            return Ok(());
        }
        let namespace = self.namespace(&attributes.namespace).await?;
        if attributes.operation != Operation::Create || namespace.status.phase != TERMINATING {
            return Ok(());
        }
        let name = &attributes.namespace;
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let being = format!("namespace {name} is being terminated");
        Err(attributes.forbidden(why).with_causes([Cause::new(
            cause::NAMESPACE_TERMINATING,
            "metadata.namespace",
            being,
        )]))
    }
}
