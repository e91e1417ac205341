//! Streams and proxies as subresources of the server.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use http::{Request, Response};
use knarr_api::status::Status;

use crate::catalogue::{Connect, Extensions};
use crate::context::RequestContext;
use crate::stream::{Proxied, Streams, Subresource, Target};

pub(super) fn extend(extensions: &mut Extensions, streams: &Streams) {
    let subresources = [
        ("log", Subresource::Log),
        ("exec", Subresource::Exec),
        ("attach", Subresource::Attach),
        ("portforward", Subresource::PortForward),
    ];
    for (name, subresource) in subresources {
        extensions.connect("pods", name, Arc::new(Pod { streams: streams.clone(), subresource }));
    }
    for (resource, proxied) in
        [("pods", Proxied::Pod), ("services", Proxied::Service), ("nodes", Proxied::Node)]
    {
        extensions.connect(resource, "proxy", Arc::new(Proxy { streams: streams.clone(), proxied }));
    }
}

fn target(cx: &RequestContext) -> Target<'_> {
    Target { user: &cx.user, verb: &cx.info.verb, namespace: cx.namespace(), name: cx.name() }
}

struct Pod {
    streams: Streams,
    subresource: Subresource,
}

#[async_trait]
impl Connect for Pod {
    async fn connect(&self, cx: &RequestContext, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.streams.pod(self.subresource, target(cx), request).await
    }
}

struct Proxy {
    streams: Streams,
    proxied: Proxied,
}

#[async_trait]
impl Connect for Proxy {
    async fn connect(&self, cx: &RequestContext, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.streams.proxy(self.proxied, target(cx), request).await
    }
}
