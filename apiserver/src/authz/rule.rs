//! One policy rule, and what it allows.

use serde::{Deserialize, Serialize};

use super::{Attributes, Target, quoted};

/// `rbac.authorization.k8s.io/v1 PolicyRule`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<Box<str>>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<Box<str>>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Box<str>>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<Box<str>>,
    #[serde(rename = "nonResourceURLs", deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<Box<str>>,
}

/// A list that may be `null`.
fn list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<str>>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(super) const ALL: &str = "*";

pub(super) fn has(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|item| **item == *wanted)
}

fn has_or_all(list: &[Box<str>], wanted: &str) -> bool {
    list.iter().any(|item| **item == *ALL || **item == *wanted)
}

impl Rule {
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, asked.verb) {
            return false;
        }
        match asked.target {
            Target::Path(path) => self.non_resource_urls.iter().any(|url| path_matches(url, path)),
            Target::Resource(target) => {
                has_or_all(&self.api_groups, target.group)
                    && self
                        .resources
                        .iter()
                        .any(|rule| resource_matches(rule, target.resource, target.subresource))
                    && (self.resource_names.is_empty() || has(&self.resource_names, target.name))
            }
        }
    }

    /// As escalation errors show it.
    pub fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = parts
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", quoted(list)))
            .collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// `pods`, `pods/log`, `*/log` or `*`.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    rule.strip_suffix(subresource)
        .and_then(|rest| rest.strip_suffix('/'))
        .is_some_and(|rest| rest == resource || rest == ALL)
}

/// A path, or a prefix of paths that ends in `*`.
pub(super) fn path_matches(rule: &str, path: &str) -> bool {
    rule == ALL || rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::ResourceTarget;
    use crate::user::UserInfo;

    fn rule(json: serde_json::Value) -> Rule {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_rule_allows_what_it_names_and_nothing_else() {
        let user = UserInfo::anonymous();
        let pods =
            rule(serde_json::json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/scale"]}));
        let named = rule(serde_json::json!({
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]
        }));
        let paths = rule(serde_json::json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*"]}));
        let resource = |verb: &'static str, group, resource, subresource, name| Attributes {
            user: &user,
            verb,
            target: Target::Resource(ResourceTarget {
                group,
                resource,
                subresource,
                name,
                ..Default::default()
            }),
        };
        let path = |path: &'static str| Attributes { user: &user, verb: "get", target: Target::Path(path) };
        let table = [
            (&pods, resource("get", "", "pods", "", "x"), true),
            (&pods, resource("list", "", "pods", "", ""), false),
            (&pods, resource("get", "apps", "pods", "", "x"), false),
            (&pods, resource("get", "", "pods", "log", "x"), false),
            (&pods, resource("get", "", "anything", "scale", "x"), true),
            (&pods, resource("get", "", "scale", "", "x"), false),
            (&pods, path("/healthz"), false),
            (&named, resource("delete", "apps", "deployments", "status", "a"), true),
            (&named, resource("delete", "apps", "deployments", "", "b"), false),
            (&named, resource("create", "apps", "deployments", "", ""), false),
            (&named, path("/healthz"), false),
            (&paths, path("/healthz"), true),
            (&paths, path("/healthz/etcd"), false),
            (&paths, path("/apis/apps/v1"), true),
            (&paths, path("/apis"), false),
        ];
        for (rule, asked, allowed) in table {
            assert_eq!(rule.allows(&asked), allowed, "{} {asked:?}", rule.compact());
        }
    }
}
