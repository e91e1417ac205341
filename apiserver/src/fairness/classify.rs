//! Which requests a FlowSchema is about.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::authz::{Attributes, ResourceTarget, Target};
use crate::object;
use crate::user::UserInfo;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    matching_precedence: i64,
    priority_level_configuration: Named,
    distinguisher_method: Option<Distinguisher>,
    rules: Vec<Rule>,
}

impl Default for Spec {
    fn default() -> Self {
        let (priority_level_configuration, rules) = (Named::default(), Vec::new());
        Self { matching_precedence: 1000, priority_level_configuration, distinguisher_method: None, rules }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Distinguisher {
    #[serde(rename = "type")]
    kind: Method,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
enum Method {
    ByUser,
    ByNamespace,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    user: Option<Named>,
    group: Option<Named>,
    service_account: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

/// A FlowSchema, ready for use.
pub(super) struct Schema {
    pub name: String,
    pub uid: Arc<str>,
    pub precedence: i64,
    /// The name of its priority level.
    pub level: String,
    method: Option<Method>,
    rules: Vec<Rule>,
}

impl Schema {
    pub fn read(object: &Value) -> Option<Self> {
        let spec: Spec = serde_json::from_value(object.get("spec")?.clone()).ok()?;
        Some(Self {
            name: object::name(object).to_owned(),
            uid: object::uid(object).into(),
            precedence: spec.matching_precedence,
            level: spec.priority_level_configuration.name,
            method: spec.distinguisher_method.map(|method| method.kind),
            rules: spec.rules,
        })
    }

    pub fn fits(&self, asked: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| subject.is(asked.user))
                && match &asked.target {
                    Target::Resource(target) => {
                        rule.resource_rules.iter().any(|rule| rule.fits(asked.verb, target))
                    }
                    Target::Path(path) => {
                        rule.non_resource_rules.iter().any(|rule| rule.fits(asked.verb, path))
                    }
                }
        })
    }

    /// A number for the flow that the request is of.
    pub fn flow(&self, asked: &Attributes<'_>) -> u64 {
        let distinguisher = match (self.method, &asked.target) {
            (Some(Method::ByUser), _) => asked.user.name.as_str(),
            (Some(Method::ByNamespace), Target::Resource(target)) => target.namespace,
            _ => "",
        };
        let mut hasher = DefaultHasher::new();
        (self.name.as_str(), distinguisher).hash(&mut hasher);
        hasher.finish()
    }
}

fn holds(list: &[String], value: &str) -> bool {
    list.iter().any(|known| known == "*" || known == value)
}

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        if let Some(wanted) = &self.user {
            return wanted.name == "*" || wanted.name == user.name;
        }
        if let Some(wanted) = &self.group {
            return wanted.name == "*" || user.in_group(&wanted.name);
        }
        let Some(wanted) = &self.service_account else { return false };
        let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        account.is_some_and(|(namespace, name)| {
            namespace == wanted.namespace && (wanted.name == "*" || wanted.name == name)
        })
    }
}

impl ResourceRule {
    fn fits(&self, verb: &str, target: &ResourceTarget<'_>) -> bool {
        let resource = match target.subresource {
            "" => target.resource.to_owned(),
            subresource => format!("{}/{subresource}", target.resource),
        };
        let in_scope = match target.namespace {
            "" => self.cluster_scope,
            namespace => holds(&self.namespaces, namespace),
        };
        in_scope
            && holds(&self.verbs, verb)
            && holds(&self.api_groups, target.group)
            && holds(&self.resources, &resource)
    }
}

impl PathRule {
    fn fits(&self, verb: &str, path: &str) -> bool {
        let matches = |url: &String| match url.strip_suffix("/*") {
            _ if url == "*" => true,
            Some(root) => path == root || path.starts_with(&format!("{root}/")),
            None => url == path,
        };
        holds(&self.verbs, verb) && self.urls.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_fit_by_subject_verb_and_place() {
        let schema = Schema::read(&json!({"metadata": {"name": "s", "uid": "u"}, "spec": {
            "priorityLevelConfiguration": {"name": "l"}, "distinguisherMethod": {"type": "ByNamespace"},
            "rules": [{"subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "namespaces": ["a", "b"]}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}]}]}})).unwrap();
        let account = UserInfo::new("system:serviceaccount:kube-system:x", ["system:serviceaccounts"]);
        let stranger = UserInfo::new("system:serviceaccount:default:x", ["system:serviceaccounts"]);
        let at = |namespace, group| {
            Target::Resource(ResourceTarget {
                group,
                namespace,
                resource: "deployments",
                ..ResourceTarget::default()
            })
        };
        let table = [
            (&account, at("a", "apps"), true),
            (&account, at("c", "apps"), false),
            (&account, at("", "apps"), false),
            (&account, at("a", "batch"), false),
            (&stranger, at("a", "apps"), false),
            (&account, Target::Path("/healthz/etcd"), true),
            (&account, Target::Path("/healthzy"), false),
        ];
        for (user, target, expected) in table {
            let asked = Attributes { user, verb: "get", target };
            assert_eq!(schema.fits(&asked), expected);
        }
        let flow = |namespace| {
            schema.flow(&Attributes { user: &account, verb: "get", target: at(namespace, "apps") })
        };
        assert_eq!(flow("a"), flow("a"));
        assert_ne!(flow("a"), flow("b"));
    }
}
