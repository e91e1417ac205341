//! Who may do what: the Node and RBAC authorizers behind one trait.

use async_trait::async_trait;

use crate::user::UserInfo;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// get, list, watch, create, update, patch, delete, deletecollection, proxy, or any verb asked about in a
    /// review; for paths the lower-case HTTP method.
    pub verb: &'a str,
    pub target: Target<'a>,
}

#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    Resource(ResourceTarget<'a>),
    /// A path that is no API resource, like `/healthz`.
    Path(&'a str),
}

/// Empty strings mean "none", as on the wire.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResourceTarget<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The raw field and label selectors of a list or watch, as sent; empty where there are none.
    pub field_selector: &'a str,
    pub label_selector: &'a str,
}

/// An authorizer's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed; the reason is for the audit log.
    Allow(String),
    /// Refused, whatever others would say.
    Deny(String),
    /// Not allowed by this authorizer; another may. Refused when it is the last word.
    NoOpinion(String),
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// Decides on requests. Never fails: what cannot be evaluated is not allowed, and says so in the reason.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}
