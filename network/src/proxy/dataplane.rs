//! What the proxy asks of the kernel, so that everything else can be tested
//! without it.

use async_trait::async_trait;
use std::net::SocketAddr;

use super::elements::{Difference, Elements};
use super::plan::Front;

/// Connections that conntrack would go on sending to the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StaleFlow {
    pub front: Front,
    /// The endpoint that is gone; `None` for packets let through untranslated
    /// while there was no endpoint.
    pub endpoint: Option<SocketAddr>,
}

/// The rules of one cluster's Services in one node's kernel.
#[async_trait]
pub trait Dataplane: Send + Sync {
    /// Puts the fixed part in place if it is missing or was made for another
    /// configuration, and answers the elements that are there. What is right
    /// already stays untouched, so traffic goes on.
    async fn load(&mut self) -> Result<Elements, Error>;

    /// Applies all of a difference at once, or nothing.
    async fn apply(&mut self, difference: &Difference) -> Result<(), Error>;

    /// Makes clients with affinity to an endpoint that their front no longer has
    /// choose again.
    async fn forget_affinity(&mut self, gone: &[(Front, SocketAddr)]) -> Result<(), Error>;

    /// Deletes conntrack entries of connectionless protocols.
    async fn forget_flows(&mut self, flows: &[StaleFlow]) -> Result<(), Error>;

    /// Removes everything of ours.
    async fn destroy(&mut self) -> Result<(), Error>;
}

/// The kernel refused. Names the step; the cause names the operation.
#[derive(Debug, thiserror::Error)]
#[error("service rules of table {table}: {step}: {source}")]
pub struct Error {
    pub table: String,
    pub step: &'static str,
    pub source: nlink::Error,
}
