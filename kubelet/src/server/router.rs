//! The paths of the node's server; upstream's, with and without the pod's uid.

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{any, get};

use super::auth::{self, Authenticator};
use super::{State, container_logs, exec, info, metrics, node_logs, port_forward, summary};

pub fn build(state: State, authenticator: Arc<Authenticator>) -> Router {
    Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs::handle))
        .route("/exec/{namespace}/{pod}/{container}", any(exec::exec))
        .route("/exec/{namespace}/{pod}/{uid}/{container}", any(exec::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(exec::attach))
        .route("/attach/{namespace}/{pod}/{uid}/{container}", any(exec::attach))
        .route("/run/{namespace}/{pod}/{container}", any(exec::run))
        .route("/run/{namespace}/{pod}/{uid}/{container}", any(exec::run))
        .route("/portForward/{namespace}/{pod}", any(port_forward::handle))
        .route("/portForward/{namespace}/{pod}/{uid}", any(port_forward::handle))
        .route("/pods", get(info::pods))
        .route("/pods/", get(info::pods))
        .route("/runningpods/", get(info::running_pods))
        .route("/healthz", get(info::healthz))
        .route("/healthz/ping", get(info::healthz))
        .route("/healthz/syncloop", get(info::healthz))
        .route("/healthz/log", get(info::healthz))
        .route("/configz", get(info::configz))
        .route("/stats/summary", get(summary::handle))
        .route("/logs/", get(node_logs::root))
        .route("/logs/{*path}", get(node_logs::below))
        .route("/metrics", get(metrics::kubelet))
        .route("/metrics/resource", get(metrics::resource))
        .route("/metrics/cadvisor", get(metrics::cadvisor))
        .route("/metrics/probes", get(metrics::probes))
        .layer(middleware::from_fn_with_state(authenticator, auth::middleware))
        .with_state(state)
}
