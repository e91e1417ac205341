//! Who may do what: the Node and RBAC authorizers behind one trait.

use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::field::quote;
use knarr_api::status::Status;

use crate::user::{MASTERS_GROUP, UserInfo};

mod follow;
mod node;
mod rbac;
pub mod reviews;
mod rule;

pub(crate) use follow::{Index, follow};
pub use node::{NodeAuthorizer, node_of};
pub use rbac::{Rbac, RoleRef, Subject, covers};
pub use rule::Rule;

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

pub type SharedAuthorizer = Arc<dyn Authorizer>;

/// Asks one authorizer after the other until one allows or denies. Members of `system:masters` are allowed before
/// anyone is asked, so that nobody can lock themselves out.
pub struct Chain(pub Vec<SharedAuthorizer>);

#[async_trait]
impl Authorizer for Chain {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(MASTERS_GROUP) {
            return Decision::Allow(String::new());
        }
        let mut reasons: Vec<String> = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}

/// The 403 for a request that was not allowed, in upstream's words.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let user = quote(&attributes.user.name);
    let verb = attributes.verb;
    let (group, resource, name, what) = match attributes.target {
        Target::Path(path) => ("", "", "", format!("User {user} cannot {verb} path {}", quote(path))),
        Target::Resource(target) => {
            let resource = match target.subresource {
                "" => quote(target.resource),
                subresource => quote(&format!("{}/{subresource}", target.resource)),
            };
            let scope = match target.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {}", quote(namespace)),
            };
            let group = quote(target.group);
            let what = format!("User {user} cannot {verb} resource {resource} in API group {group} {scope}");
            (target.group, target.resource, target.name, what)
        }
    };
    // Browsers must not take a name for markup.
    let what = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let why = if reason.is_empty() { what } else { format!("{what}: {reason}") };
    Status::forbidden(group, resource, name, why)
}

/// A list as Go prints it with `%q`.
pub(crate) fn quoted<T: AsRef<str>>(list: &[T]) -> String {
    let items: Vec<String> = list.iter().map(|item| quote(item.as_ref())).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_upstreams() {
        let user = UserInfo::new("x", [] as [&str; 0]);
        let target = ResourceTarget { resource: "pods", namespace: "y", ..ResourceTarget::default() };
        let asked = Attributes { user: &user, verb: "list", target: Target::Resource(target) };
        let status = forbidden(&asked, "");
        assert_eq!(
            status.message,
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y""#
        );
        let asked = Attributes { user: &user, verb: "get", target: Target::Path("/<b>") };
        assert_eq!(forbidden(&asked, "").message, r#"forbidden: User "x" cannot get path "/&lt;b&gt;""#);
    }

    struct Fixed(Decision);

    #[async_trait]
    impl Authorizer for Fixed {
        async fn authorize(&self, _: &Attributes<'_>) -> Decision {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn the_first_decision_counts_and_masters_are_never_asked() {
        let no = |why: &str| Arc::new(Fixed(Decision::NoOpinion(why.into()))) as SharedAuthorizer;
        let deny = Arc::new(Fixed(Decision::Deny("d".into()))) as SharedAuthorizer;
        let allow = Arc::new(Fixed(Decision::Allow("a".into()))) as SharedAuthorizer;
        let ask = async |chain: Vec<SharedAuthorizer>, groups: &[&str]| {
            let user = UserInfo::new("x", groups.iter().copied());
            let asked = Attributes { user: &user, verb: "get", target: Target::Path("/") };
            Chain(chain).authorize(&asked).await
        };
        assert_eq!(ask(vec![no("1"), no(""), no("2")], &[]).await, Decision::NoOpinion("1\n2".into()));
        assert_eq!(ask(vec![no("1"), deny.clone(), allow.clone()], &[]).await, Decision::Deny("d".into()));
        assert!(ask(vec![deny], &[MASTERS_GROUP]).await.is_allowed());
    }
}
