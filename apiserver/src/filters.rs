//! What every request passes before it is served, and every answer after: one function per filter, in order.

mod compress;
mod guarded;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt;
use http::header::{AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use knarr_api::status::Status;
use tokio::time::Instant;

use crate::audit::{AuditId, Record, Stage};
use crate::authn::impersonation;
use crate::authz::{self, Attributes, ResourceTarget, Target};
use crate::handlers::respond;
use crate::object;
use crate::request_info::RequestInfo;
use crate::server::Inner;
use crate::user::User;

pub(crate) use guarded::guard;

/// How long a request that is not a watch or a connection may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Paths that anyone may ask.
const ALWAYS_ALLOWED: [&str; 3] = ["/healthz", "/livez", "/readyz"];
static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Takes a request through all filters to its answer.
pub async fn serve(server: Arc<Inner>, mut request: Request<Body>) -> Response<Body> {
    let begun = Instant::now();
    let audit_id = audit_id(&server, &request);
    if let Some(id) = &audit_id {
        request.extensions_mut().insert(AuditId(id.clone()));
    }
    let accepts_gzip = compress::accepts_gzip(request.headers());
    let info = RequestInfo::parse(request.method(), request.uri().path(), request.uri().query());
    let (info, served) = match info {
        Ok(info) => {
            let info = Arc::new(info);
            let dry_run = request.uri().query().is_some_and(|query| query.contains("dryRun=All"));
            let served = guarded(server.clone(), info.clone(), request).await;
            server.metrics.observe(&info, dry_run, served.status().as_u16(), begun.elapsed());
            (Some(info), served)
        }
        Err(error) => (None, respond::status(&Status::bad_request(error.to_string()))),
    };
    let streams = info.is_some_and(|info| is_long_running(&info));
    let mut response = if accepts_gzip && !streams { compress::gzip(served).await } else { served };
    if let Some(id) = audit_id {
        response.headers_mut().insert(AUDIT_ID.clone(), id);
    }
    response
}

/// The id under which the request is found in logs: the client's own, or a new one.
fn audit_id(server: &Inner, request: &Request<Body>) -> Option<HeaderValue> {
    if let Some(id) = request.headers().get(&AUDIT_ID).filter(|id| id.len() <= 64) {
        return Some(id.clone());
    }
    HeaderValue::from_str(&object::new_uid(&*server.registry.random)).ok()
}

/// Serves the request; whatever goes wrong, the client gets a Status and the server lives.
async fn guarded(server: Arc<Inner>, info: Arc<RequestInfo>, request: Request<Body>) -> Response<Body> {
    let long = is_long_running(&info);
    let _seat = match (long, server.take_seat(request.method(), &request)) {
        (true, _) => None,
        (false, Ok(seat)) => seat,
        (false, Err(status)) => return respond::status(&status),
    };
    let counted = server.metrics.serving(&info, long);
    let serving = AssertUnwindSafe(authorized(server, info.clone(), request)).catch_unwind();
    let done = if long { Ok(serving.await) } else { tokio::time::timeout(TIMEOUT, serving).await };
    match done {
        Ok(Ok(Ok(response))) if long => guarded::guard(response, counted),
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(status))) => {
            let mut response = respond::status(&status);
            if status.code == 401 {
                let challenge = HeaderValue::from_static("Bearer realm=\"kubernetes-master\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
        Ok(Err(_panic)) => {
            tracing::error!(path = info.path, verb = info.verb, "a request panicked");
            respond::status(&Status::internal("the request could not be served"))
        }
        Err(_elapsed) => {
            let message = "request did not complete within the allotted timeout";
            respond::status(&Status::timeout(message, 0))
        }
    }
}

/// Watches and connections, which end when they end.
fn is_long_running(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "watch" | "proxy")
        || matches!(info.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward")
}

async fn authorized(
    server: Arc<Inner>,
    info: Arc<RequestInfo>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let found = server.security.authenticator.authenticate(&parts).await;
    let user = match found {
        Ok(Some(found)) => found.user,
        Ok(None) => return Err(unauthenticated(&server, &info, &parts)),
        Err(rejected) => {
            tracing::debug!(path = info.path, %rejected, "unable to authenticate the request");
            return Err(unauthenticated(&server, &info, &parts));
        }
    };
    let Some(record) = begin_record(&server, &info, &user, &parts) else {
        return admitted(server, info, user, Request::from_parts(parts, body), None).await;
    };
    record.stage(Stage::RequestReceived);
    parts.extensions.insert(record.clone());
    let long = is_long_running(&info);
    let request = Request::from_parts(parts, body);
    let served = AssertUnwindSafe(admitted(server, info, user, request, Some(&record))).catch_unwind().await;
    match served {
        Ok(served) => {
            let response = served.unwrap_or_else(|status| respond::status(&status));
            Ok(record.answered(response, long).await)
        }
        Err(panic) => {
            record.panicked();
            std::panic::resume_unwind(panic)
        }
    }
}

/// The record of a request in the audit log, if its policy wants one.
fn begin_record(server: &Inner, info: &RequestInfo, user: &User, parts: &Parts) -> Option<Arc<Record>> {
    let id = parts.extensions.get::<AuditId>().and_then(|AuditId(id)| id.to_str().ok()).unwrap_or_default();
    server.audit.as_ref()?.begin(&attributes(info, user), id, parts, &server.registry.clock)
}

/// The refusal of a request from who knows whom, which is told, too.
fn unauthenticated(server: &Inner, info: &RequestInfo, parts: &Parts) -> Status {
    if let Some(record) = begin_record(server, info, &User::default(), parts) {
        let tried = if parts.headers.contains_key(AUTHORIZATION) { "bearer" } else { "" };
        record.unauthenticated(&match tried {
            "" => "Authentication failed, no credentials provided".to_owned(),
            tried => format!("Authentication failed, attempted: {tried}"),
        });
    }
    Status::unauthorized("Unauthorized")
}

/// Serves the request of somebody who is known.
async fn admitted(
    server: Arc<Inner>,
    info: Arc<RequestInfo>,
    user: User,
    request: Request<Body>,
    record: Option<&Arc<Record>>,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let user = impersonated(&server, &info, user, &mut parts, record).await?;
    let placed = server.security.fairness.as_ref().and_then(|known| known.place(&attributes(&info, &user)));
    let Some(placed) = placed else {
        return permitted(&server, info, user, Request::from_parts(parts, body), record).await;
    };
    let served = async {
        // Watches and connections would keep a seat for ever.
        let _seat = if is_long_running(&info) { None } else { placed.seat().await? };
        permitted(&server, info, user, Request::from_parts(parts, body), record).await
    };
    let mut response = served.await.unwrap_or_else(|status| respond::status(&status));
    placed.tell(response.headers_mut());
    Ok(response)
}

/// Serves the request if its user may make it.
async fn permitted(
    server: &Inner,
    info: Arc<RequestInfo>,
    user: User,
    request: Request<Body>,
    record: Option<&Arc<Record>>,
) -> Result<Response<Body>, Status> {
    authorize(server, &info, &user, record).await?;
    if server.health.is_draining() && info.is_resource && request.method() != Method::GET {
        let refused = Status::too_many_requests("The apiserver is shutting down, please try again later.", 5);
        return Err(refused);
    }
    server.dispatch(info, user, request).await
}

async fn impersonated(
    server: &Inner,
    info: &RequestInfo,
    user: User,
    parts: &mut Parts,
    record: Option<&Arc<Record>>,
) -> Result<User, Status> {
    let Some(wanted) = impersonation::wanted(&mut parts.headers)? else { return Ok(user) };
    let asked = attributes(info, &user);
    let allowed = impersonation::impersonate(&*server.security.authorizer, &wanted, &asked).await?;
    if let Some(record) = record {
        record.impersonated(&allowed);
    }
    Ok(allowed.user)
}

fn attributes<'a>(info: &'a RequestInfo, user: &'a User) -> Attributes<'a> {
    let target = if info.is_resource {
        Target::Resource(ResourceTarget {
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            field_selector: info.field_selector.as_deref().unwrap_or_default(),
            label_selector: info.label_selector.as_deref().unwrap_or_default(),
        })
    } else {
        Target::Path(&info.path)
    };
    Attributes { user, verb: &info.verb, target }
}

async fn authorize(
    server: &Inner,
    info: &RequestInfo,
    user: &User,
    record: Option<&Arc<Record>>,
) -> Result<(), Status> {
    if !info.is_resource && ALWAYS_ALLOWED.contains(&info.path.as_str()) {
        return Ok(());
    }
    let asked = attributes(info, user);
    let decision = server.security.authorizer.authorize(&asked).await;
    if let Some(record) = record {
        let decided = if decision.is_allowed() { "allow" } else { "forbid" };
        record.annotate("authorization.k8s.io/decision", decided);
        record.annotate("authorization.k8s.io/reason", decision.reason());
    }
    if decision.is_allowed() { Ok(()) } else { Err(authz::forbidden(&asked, decision.reason())) }
}
