//! What every handler knows of the request it serves.

use std::sync::Arc;

use knarr_api::status::Status;

use crate::admission::Remarks;
use crate::catalogue::Resource;
use crate::registry::{Context, Registry};
use crate::request_info::RequestInfo;
use crate::user::User;

/// A request for a resource, after authentication and authorization.
#[derive(Clone)]
pub struct RequestContext {
    pub registry: Arc<Registry>,
    pub resource: Arc<Resource>,
    pub info: Arc<RequestInfo>,
    pub user: User,
    /// What goes back in `Warning` headers.
    pub remarks: Arc<Remarks>,
    /// The query, decoded; the first value of a name counts.
    pub query: Arc<Vec<(String, String)>>,
    pub dry_run: bool,
    /// Who is held to set what this request sets: the `fieldManager`, or else the client's name.
    pub manager: Arc<str>,
}

impl RequestContext {
    /// The namespace that objects of this request are in; empty for cluster-scoped resources and for requests
    /// across namespaces.
    pub fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.info.namespace } else { "" }
    }

    /// The name in the path; empty for collections.
    pub fn name(&self) -> &str {
        self.info.parts.get(1).map_or("", String::as_str)
    }

    pub fn strategy(&self) -> Context<'_> {
        Context {
            user: &self.user,
            namespace: self.namespace(),
            group: &self.info.group,
            now: self.registry.clock.now(),
            dry_run: self.dry_run,
            registry: &self.registry,
            remarks: &self.remarks,
        }
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn params<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.info.group, &self.info.resource, name)
    }
}
