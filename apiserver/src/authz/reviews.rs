//! The access reviews: asking the server what it would decide.

use std::collections::BTreeMap;

use knarr_api::status::{Cause, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::node::node_of;
use super::{Attributes, Authorizer, Decision, Rbac, ResourceTarget, Rule, Target};
use crate::user::UserInfo;

const GROUP: &str = "authorization.k8s.io";

/// Which of the three kinds of access review is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// About the user named in the review.
    Subject,
    /// About a user in the namespace of the URL.
    Local { namespace: &'a str },
    /// About whoever asks.
    Own(&'a UserInfo),
}

impl Kind<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Subject => "SubjectAccessReview",
            Self::Local { .. } => "LocalSubjectAccessReview",
            Self::Own(_) => "SelfSubjectAccessReview",
        }
    }
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Spec {
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
    resource_attributes: Option<Resource>,
    non_resource_attributes: Option<Path>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Resource {
    namespace: String,
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
    field_selector: Option<Selector>,
    label_selector: Option<Selector>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    raw_selector: String,
    requirements: Vec<Requirement>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

impl Selector {
    /// As a query would carry it. Requirements that a query cannot say are left out: that asks for more objects,
    /// never for fewer.
    fn raw(&self) -> String {
        if !self.raw_selector.is_empty() {
            return self.raw_selector.clone();
        }
        let terms = self.requirements.iter().filter_map(|requirement| {
            let Requirement { key, operator, values } = requirement;
            match (operator.as_str(), values.as_slice()) {
                ("In", [one]) => Some(format!("{key}={one}")),
                ("NotIn", [one]) => Some(format!("{key}!={one}")),
                ("In", many) => Some(format!("{key} in ({})", many.join(","))),
                ("NotIn", many) => Some(format!("{key} notin ({})", many.join(","))),
                ("Exists", _) => Some(key.clone()),
                ("DoesNotExist", _) => Some(format!("!{key}")),
                _ => None,
            }
        });
        terms.collect::<Vec<_>>().join(",")
    }
}

/// Completes a decoded access review with the decision.
///
/// Errors: the spec is contradictory, 422; the namespace is not the URL's, 400 or 422.
pub async fn access_review(
    authorizer: &dyn Authorizer,
    kind: Kind<'_>,
    mut review: Value,
) -> Result<Value, Status> {
    let spec: Spec = match review.get("spec") {
        Some(spec) => Spec::deserialize(spec)
            .map_err(|error| Status::bad_request(format!("{} does not decode: {error}", kind.name())))?,
        None => Spec::default(),
    };
    let causes = check(&review, &spec, kind);
    if !causes.is_empty() {
        return Err(Status::invalid(GROUP, kind.name(), "", causes));
    }
    if let Kind::Local { namespace } = kind
        && review["metadata"]["namespace"].as_str() != Some(namespace)
    {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    let named;
    let user = match kind {
        Kind::Own(user) => user,
        _ => {
            let Spec { user, groups, uid, extra, .. } = &spec;
            let extra = extra.iter().map(|(k, v)| (k.to_lowercase(), v.clone())).collect();
            named = UserInfo { name: user.clone(), uid: uid.clone(), groups: groups.clone(), extra };
            &named
        }
    };
    let decision = decide(authorizer, user, &spec).await;
    review["status"] = status(&decision);
    Ok(review)
}

async fn decide(authorizer: &dyn Authorizer, user: &UserInfo, spec: &Spec) -> Decision {
    if let Some(path) = &spec.non_resource_attributes {
        return authorizer
            .authorize(&Attributes { user, verb: &path.verb, target: Target::Path(&path.path) })
            .await;
    }
    // `check` saw to it that there is one of the two.
    let resource = spec.resource_attributes.as_ref();
    let Some(resource) = resource else { return Decision::NoOpinion(String::new()) };
    let raw = |selector: &Option<Selector>| selector.as_ref().map(Selector::raw).unwrap_or_default();
    let (fields, labels) = (raw(&resource.field_selector), raw(&resource.label_selector));
    let target = ResourceTarget {
        group: &resource.group,
        version: if resource.version.is_empty() { "*" } else { &resource.version },
        resource: &resource.resource,
        subresource: &resource.subresource,
        namespace: &resource.namespace,
        name: &resource.name,
        field_selector: &fields,
        label_selector: &labels,
    };
    authorizer.authorize(&Attributes { user, verb: &resource.verb, target: Target::Resource(target) }).await
}

fn status(decision: &Decision) -> Value {
    let mut status = json!({"allowed": decision.is_allowed()});
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    status
}

fn check(review: &Value, spec: &Spec, kind: Kind<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut invalid = |field: &str, value: &str, why: &str| {
        causes.push(Cause::new("FieldValueInvalid", field, format!("Invalid value: {value}: {why}")));
    };
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(_), Some(_)) => invalid(
            "spec.nonResourceAttributes",
            &review["spec"]["nonResourceAttributes"].to_string(),
            "cannot be specified in combination with resourceAttributes",
        ),
        (None, None) => invalid(
            "spec.resourceAttributes",
            "null",
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
    if !matches!(kind, Kind::Own(_)) && spec.user.is_empty() && spec.groups.is_empty() {
        invalid("spec.user", "\"\"", "at least one of user or group must be specified");
    }
    let local = matches!(kind, Kind::Local { .. });
    let empty = review["metadata"].as_object().is_none_or(|metadata| {
        metadata.iter().all(|(key, value)| {
            value.is_null()
                || key == "managedFields"
                || key == "creationTimestamp"
                || (local && key == "namespace")
        })
    });
    if !empty {
        let why = if local { "must be empty except for namespace" } else { "must be empty" };
        invalid("metadata", &review["metadata"].to_string(), why);
    }
    if local {
        let own = review["metadata"]["namespace"].as_str().unwrap_or_default();
        if let Some(resource) = spec.resource_attributes.as_ref().filter(|resource| resource.namespace != own)
        {
            invalid(
                "spec.resourceAttributes.namespace",
                &format!("{:?}", resource.namespace),
                "must match metadata.namespace",
            );
        }
        if spec.non_resource_attributes.is_some() {
            invalid(
                "spec.nonResourceAttributes",
                &review["spec"]["nonResourceAttributes"].to_string(),
                "disallowed on this kind of request",
            );
        }
    }
    causes
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Path {
    path: String,
    verb: String,
}

/// Answers a SelfSubjectRulesReview: the rules of whoever asks in the namespace of the spec.
pub fn rules_review(rbac: &Rbac, user: &UserInfo, review: &Value) -> Result<Value, Status> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, mut errors) = rbac.rules_for(user, namespace);
    let is_node = node_of(user).is_some();
    if is_node {
        errors.insert(0, "node authorizer does not support user rule resolution".into());
    }
    let mut answer = json!({
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": null},
        "spec": {},
        "status": {
            "resourceRules": rules.iter().filter(|rule| !rule.resources.is_empty()).map(resource_rule).collect::<Vec<_>>(),
            "nonResourceRules": rules.iter().filter(|rule| !rule.non_resource_urls.is_empty()).map(path_rule).collect::<Vec<_>>(),
            "incomplete": is_node,
        },
    });
    match errors.as_slice() {
        [] => {}
        [one] => answer["status"]["evaluationError"] = one.as_str().into(),
        many => answer["status"]["evaluationError"] = format!("[{}]", many.join(", ")).into(),
    }
    Ok(answer)
}

fn resource_rule(rule: &Rule) -> Value {
    let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
    if !rule.resource_names.is_empty() {
        shown["resourceNames"] = json!(rule.resource_names);
    }
    shown
}

fn path_rule(rule: &Rule) -> Value {
    json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls})
}
