//! Requests that go through to nodes, pods and services: logs, exec, attach, port-forward and proxy.
//!
//! The kubelet speaks WebSocket and SPDY itself, so an upgraded connection is relayed byte for byte.

mod ask;
mod backend;
mod dial;
mod headers;
mod html;
mod kubelet;
mod location;
mod logs;
mod onward;
mod options;
mod pod;
mod proxy;
mod relay;
mod rewrite;

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response};
use knarr_api::status::Status;
use knarr_api::time::SharedRandom;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::dial::{Dialer, Io, TcpDialer};
pub use self::kubelet::Kubelets;

pub(crate) use self::backend::{Backend, Location};
pub(crate) use self::headers::upgrade;

use crate::authz::SharedAuthorizer;
use crate::objects::Objects;
use crate::user::UserInfo;

/// Serves what goes through to the nodes.
#[derive(Clone)]
pub struct Streams {
    objects: Arc<dyn Objects>,
    authorizer: SharedAuthorizer,
    kubelets: Kubelets,
    backend: Backend,
    random: SharedRandom,
    relays: TaskTracker,
    stop: CancellationToken,
}

/// What `Streams` is built from.
pub struct Config {
    pub objects: Arc<dyn Objects>,
    /// Asked again where opening a stream needs more than the verb of the request.
    pub authorizer: SharedAuthorizer,
    pub kubelets: Kubelets,
    /// Connects to nodes, pods and services.
    pub dialer: Arc<dyn Dialer>,
    pub random: SharedRandom,
    /// Ends the relays.
    pub stop: CancellationToken,
}

/// What is streamed from or to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub user: &'a UserInfo,
    /// The verb the request was authorized for.
    pub verb: &'a str,
    /// Empty for nodes.
    pub namespace: &'a str,
    /// As in the path; for proxies `[scheme:]name[:port]`.
    pub name: &'a str,
}

/// The subresources of pods that the kubelet serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subresource {
    Log,
    Exec,
    Attach,
    PortForward,
}

/// What has a `proxy` subresource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxied {
    Pod,
    Service,
    Node,
}

impl Streams {
    pub fn new(config: Config) -> Self {
        let Config { objects, authorizer, kubelets, dialer, random, stop } = config;
        let relays = TaskTracker::new();
        Self {
            objects,
            authorizer,
            kubelets,
            backend: Backend::new(dialer, relays.clone()),
            random,
            relays,
            stop,
        }
    }

    /// Answers a request for one of a pod's streams.
    pub async fn pod(
        &self,
        subresource: Subresource,
        target: Target<'_>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        match subresource {
            Subresource::Log => self.log(target, request).await,
            _ => self.open(subresource, target, request).await,
        }
    }

    /// Answers a request for the `proxy` subresource.
    pub async fn proxy(
        &self,
        proxied: Proxied,
        target: Target<'_>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        self.forward(proxied, target, request).await
    }

    /// Waits for the relays to end, which `stop` makes them do.
    pub async fn finished(&self) {
        self.relays.close();
        self.relays.wait().await;
    }
}
