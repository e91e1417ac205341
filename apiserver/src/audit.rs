//! The audit log: who asked for what, when, and what came of it.
//!
//! A policy says of every request how much is told; each of the request's stages then becomes an event, which goes to
//! the sinks. Nothing here decides about a request.

mod batch;
mod event;
mod file;
mod policy;
mod record;

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::USER_AGENT;
use http::request::Parts;
use knarr_api::time::SharedClock;

pub use batch::{Backend, BatchOptions, Batches, Throttle, Undelivered};
pub use event::{Level, Stage};
pub use file::{LogFile, LogOptions};
pub use policy::{Policy, PolicyError};
pub use record::{AuditId, Record};

use crate::authn::Peer;
use crate::authz::Attributes;
use event::{Event, ObjectReference};

/// User agents are cut at this length, and say so.
const MAX_USER_AGENT: usize = 1024;
const CUT: &str = "...TRUNCATED";
/// Where requests of this server's own components come from.
const LOOPBACK: &str = "::1";

/// Takes events. Writing must not block for long: requests wait for it.
pub trait Sink: Send + Sync + std::fmt::Debug + 'static {
    /// `event` is one object of JSON, without a line break.
    fn write(&self, event: &[u8]);

    /// Returns when all events so far are where they belong. Blocks.
    fn flush(&self) {}
}

/// The policy at work.
#[derive(Debug)]
pub struct Auditor {
    policy: Policy,
    sinks: Vec<Arc<dyn Sink>>,
}

impl Auditor {
    pub fn new(policy: Policy, sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self { policy, sinks }
    }

    /// Begins the record of a request; `None` if the policy wants none.
    pub fn begin(
        self: &Arc<Self>,
        asked: &Attributes<'_>,
        id: &str,
        parts: &Parts,
        clock: &SharedClock,
    ) -> Option<Arc<Record>> {
        let rule = self.policy.rule(asked);
        if rule.level == Level::None {
            return None;
        }
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: rule.level,
            audit_id: id.to_owned(),
            stage: Stage::RequestReceived,
            request_uri: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            verb: asked.verb.to_owned(),
            user: asked.user.clone(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(parts),
            user_agent: user_agent(&parts.headers),
            object_ref: ObjectReference::of(&asked.target),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: event::micro_time(clock.now()),
            stage_timestamp: String::new(),
            annotations: std::collections::BTreeMap::new(),
        };
        Some(Arc::new(Record::new(self.clone(), rule, event, clock.clone())))
    }

    /// Returns when all events so far are where they belong. Blocks.
    pub fn flush(&self) {
        self.sinks.iter().for_each(|sink| sink.flush());
    }
}

fn user_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    match agent.get(..MAX_USER_AGENT) {
        Some(begin) if agent.len() > MAX_USER_AGENT => format!("{begin}{CUT}"),
        _ => agent.to_owned(),
    }
}

/// The proxies' word on where the request began, then the other end of the connection.
fn source_ips(parts: &Parts) -> Vec<String> {
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut ips: Vec<IpAddr> =
        header("x-forwarded-for").split(',').filter_map(|ip| ip.trim().parse().ok()).collect();
    let real: Option<IpAddr> = header("x-real-ip").trim().parse().ok();
    ips.extend(real.filter(|real| !ips.contains(real)));
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.address.ip());
    if let Some(peer) = peer.filter(|peer| ips.last() != Some(peer)) {
        ips.push(peer);
    }
    if ips.is_empty() { vec![LOOPBACK.to_owned()] } else { ips.iter().map(ToString::to_string).collect() }
}
