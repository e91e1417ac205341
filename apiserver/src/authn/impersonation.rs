//! Acting as somebody else: the `Impersonate-*` headers, and the permissions they need.
//!
//! There are five modes. The constrained ones need two permissions: to impersonate such a user at all
//! (`impersonate:<mode>`) and to do this verb on this resource while doing so (`impersonate-on:<mode>:<verb>`).
//! The last is the old one, which needs only `impersonate` for every part of the identity. The first mode that
//! permits wins; when none does, the first refusal is the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use knarr_api::status::Status;

use super::front_proxy::extra;
use super::service_account::{groups as account_groups, is_subdomain, split_username};
use crate::authz::{Attributes, Authorizer, ResourceTarget, Target, forbidden};
use crate::user::{ANONYMOUS, AUTHENTICATED_GROUP, MASTERS_GROUP, UNAUTHENTICATED_GROUP, User, UserInfo};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const NODE_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";
const NODE_NAME_EXTRA: &str = "authentication.kubernetes.io/node-name";
const AUTHENTICATION: &str = "authentication.k8s.io";
/// From here on one check for "all of them" is tried before many for each (`manyAuthorizationChecksInLoop`).
const MANY: usize = 4;

/// Who a request becomes, and by which permission.
#[derive(Debug, Clone)]
pub struct Impersonated {
    pub user: User,
    /// The constrained verb (`impersonate:user-info`); empty for the old mode. It goes into the audit event.
    pub constraint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "legacy",
        }
    }

    fn constrained(self) -> bool {
        self != Self::Legacy
    }

    fn verb(self) -> String {
        if self.constrained() { format!("impersonate:{}", self.name()) } else { "impersonate".to_owned() }
    }

    fn applies(self, wanted: &UserInfo, requestor: &UserInfo) -> bool {
        let name_only = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_name(&wanted.name);
        match self {
            Self::AssociatedNode => {
                name_only && node.is_some_and(|node| associated_node(requestor) == Some(node))
            }
            Self::ArbitraryNode => name_only && node.is_some(),
            Self::ServiceAccount => name_only && split_username(&wanted.name).is_some(),
            Self::UserInfo => node.is_none() && split_username(&wanted.name).is_none(),
            Self::Legacy => true,
        }
    }
}

/// What the headers ask for, `None` when they ask for nothing. The headers are removed: nothing behind this may
/// behave differently for an impersonated user.
///
/// Errors: parts of an identity without a user name, 400.
pub fn wanted(headers: &mut HeaderMap) -> Result<Option<UserInfo>, Status> {
    let first =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let wanted = UserInfo {
        name: first(USER),
        uid: first(UID),
        groups: headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect(),
        extra: extra(headers, &[EXTRA_PREFIX.to_owned()]),
    };
    if wanted.name.is_empty() {
        if wanted == UserInfo::default() {
            return Ok(None);
        }
        return Err(Status::bad_request(format!(
            "requested {} without impersonating a user name",
            go_syntax(&wanted)
        )));
    }
    let named: Vec<HeaderName> = headers
        .keys()
        .filter(|name| matches!(name.as_str(), USER | UID | GROUP) || name.as_str().starts_with(EXTRA_PREFIX))
        .cloned()
        .collect();
    for name in named {
        headers.remove(name);
    }
    Ok(Some(wanted))
}

/// Decides whether the requestor of `request` may make it as `wanted`.
///
/// Errors: the first refusal, 403.
pub async fn impersonate(
    authorizer: &dyn Authorizer,
    wanted: &UserInfo,
    request: &Attributes<'_>,
) -> Result<Impersonated, Status> {
    let mut refusal = None;
    for mode in MODES.into_iter().filter(|mode| mode.applies(wanted, request.user)) {
        match (Check { authorizer, mode, request }).run(wanted).await {
            Ok(user) => {
                let constraint = if mode.constrained() { mode.verb() } else { String::new() };
                return Ok(Impersonated { user: Arc::new(user), constraint });
            }
            Err(status) => {
                refusal.get_or_insert(status);
            }
        }
    }
    // The old mode always applies, so without success there is a refusal.
    Err(refusal.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

struct Check<'a> {
    authorizer: &'a dyn Authorizer,
    mode: Mode,
    request: &'a Attributes<'a>,
}

impl Check<'_> {
    async fn run(&self, wanted: &UserInfo) -> Result<UserInfo, Status> {
        if self.mode.constrained() {
            let verb = format!("impersonate-on:{}:{}", self.mode.name(), self.request.verb);
            self.authorize(&verb, self.request.target).await?;
        }
        let mut actual = wanted.clone();
        self.name(wanted, &mut actual).await?;
        if !wanted.uid.is_empty() {
            self.part(AUTHENTICATION, "uids", "", &wanted.uid).await?;
        }
        self.groups(&wanted.groups).await?;
        self.extra(&wanted.extra).await?;
        let implied = match actual.name == ANONYMOUS {
            true => Some(UNAUTHENTICATED_GROUP),
            false if actual.in_group(UNAUTHENTICATED_GROUP) => None,
            false => Some(AUTHENTICATED_GROUP),
        };
        if let Some(group) = implied.filter(|group| !actual.in_group(group)) {
            actual.groups.push(group.to_owned());
        }
        Ok(actual)
    }

    /// The group of users and groups differs: the old mode asks about the core group's.
    fn identity_group(&self) -> &'static str {
        if self.mode.constrained() { AUTHENTICATION } else { "" }
    }

    async fn name(&self, wanted: &UserInfo, actual: &mut UserInfo) -> Result<(), Status> {
        let group = self.identity_group();
        if self.mode.constrained()
            && let Some(node) = node_name(&wanted.name)
        {
            actual.groups = vec![NODES_GROUP.to_owned()];
            let node = if self.mode == Mode::AssociatedNode { "*" } else { node };
            return self.part(group, "nodes", "", node).await;
        }
        if let Some((namespace, name)) = split_username(&wanted.name) {
            if wanted.groups.is_empty() {
                actual.groups = account_groups(namespace);
            }
            let target = ResourceTarget {
                group,
                version: "v1",
                resource: "serviceaccounts",
                namespace,
                name,
                ..ResourceTarget::default()
            };
            return self.authorize(&self.mode.verb(), Target::Resource(target)).await;
        }
        self.part(group, "users", "", &wanted.name).await
    }

    async fn groups(&self, groups: &[String]) -> Result<(), Status> {
        let group = self.identity_group();
        if self.mode.constrained() {
            for (forbidden, what) in [("", "the empty string"), (MASTERS_GROUP, "the system:masters")] {
                if groups.iter().any(|group| group == forbidden) {
                    return Err(self.refuse(
                        "groups",
                        forbidden,
                        &format!("impersonating {what} group is not allowed"),
                    ));
                }
            }
            if groups.len() >= MANY && self.part(group, "groups", "", "*").await.is_ok() {
                return Ok(());
            }
        }
        for name in groups {
            self.part(group, "groups", "", name).await?;
        }
        Ok(())
    }

    async fn extra(&self, extra: &BTreeMap<String, Vec<String>>) -> Result<(), Status> {
        if self.mode.constrained() {
            check_extra(extra).map_err(|why| self.refuse("userextras", "", &why))?;
            let values: usize = extra.values().map(Vec::len).sum();
            if values.max(extra.len()) >= MANY
                && self.part(AUTHENTICATION, "userextras", "*", "*").await.is_ok()
            {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                self.part(AUTHENTICATION, "userextras", key, value).await?;
            }
        }
        Ok(())
    }

    async fn part(&self, group: &str, resource: &str, subresource: &str, name: &str) -> Result<(), Status> {
        let target =
            ResourceTarget { group, version: "v1", resource, subresource, name, ..ResourceTarget::default() };
        self.authorize(&self.mode.verb(), Target::Resource(target)).await
    }

    async fn authorize(&self, verb: &str, target: Target<'_>) -> Result<(), Status> {
        // For its own node a service account is judged by its name and groups alone, so that one permission
        // serves the pods of all nodes.
        let bare;
        let user = match self.mode {
            Mode::AssociatedNode => {
                bare = UserInfo { extra: BTreeMap::new(), ..self.request.user.clone() };
                &bare
            }
            _ => self.request.user,
        };
        let attributes = Attributes { user, verb, target };
        let decision = self.authorizer.authorize(&attributes).await;
        if decision.is_allowed() { Ok(()) } else { Err(forbidden(&attributes, decision.reason())) }
    }

    fn refuse(&self, resource: &str, name: &str, why: &str) -> Status {
        let target = ResourceTarget {
            group: AUTHENTICATION,
            version: "v1",
            resource,
            name,
            ..ResourceTarget::default()
        };
        let verb = self.mode.verb();
        forbidden(&Attributes { user: self.request.user, verb: &verb, target: Target::Resource(target) }, why)
    }
}

fn check_extra(extra: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".into());
        }
        let (domain, path) = key.split_once('/').unwrap_or(("", ""));
        if !is_subdomain(domain) || path.is_empty() {
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")"
            ));
        }
        if key.chars().any(char::is_uppercase) {
            return Err(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
        }
        if values.is_empty() {
            return Err("impersonating empty values in extra is not allowed".into());
        }
        if values.iter().any(String::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".into());
        }
    }
    Ok(())
}

fn node_name(username: &str) -> Option<&str> {
    username.strip_prefix(NODE_PREFIX).filter(|name| is_subdomain(name))
}

/// The node a service account's pod runs on, as its token says.
fn associated_node(requestor: &UserInfo) -> Option<&str> {
    split_username(&requestor.name)?;
    match requestor.extra.get(NODE_NAME_EXTRA)?.as_slice() {
        [one] => Some(one),
        _ => None,
    }
}

/// As Go prints the struct with `%#v`, which is what upstream's message has.
fn go_syntax(user: &UserInfo) -> String {
    let list = |values: &[String]| match values {
        [] => "[]string(nil)".to_owned(),
        values => {
            let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        }
    };
    let extra = match user.extra.is_empty() {
        true => "map[string][]string(nil)".to_owned(),
        false => {
            let pairs: Vec<String> = user.extra.iter().map(|(k, v)| format!("{k:?}:{}", list(v))).collect();
            format!("map[string][]string{{{}}}", pairs.join(", "))
        }
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{}, Extra:{extra}}}",
        user.name,
        user.uid,
        list(&user.groups)
    )
}
