//! `audit.k8s.io/v1 Policy`: the first rule that a request matches says how much is told of it.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde::Deserialize;

use super::event::{Level, Stage};
use crate::authz::{Attributes, ResourceTarget, Target};

const API_VERSION: &str = "audit.k8s.io/v1";
const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];
const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("failed decoding: {0}")]
    Decode(#[from] serde_yaml::Error),
    #[error("unknown group version field {api_version}, Kind={kind} in policy")]
    Kind { api_version: String, kind: String },
    #[error("{0}")]
    Invalid(ErrorList),
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    rules: Vec<RuleDocument>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuleDocument {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What is to be told of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub level: Level,
    pub omitted: Vec<Stage>,
    pub omit_managed_fields: bool,
}

/// Which requests are told of.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<(RuleDocument, Rule)>,
    otherwise: Rule,
}

impl Policy {
    /// Reads a policy, YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let document: Document = serde_yaml::from_str(text)?;
        let Document { api_version, kind, rules, omit_stages, omit_managed_fields } = document;
        if api_version != API_VERSION || kind != "Policy" {
            return Err(PolicyError::Kind { api_version, kind });
        }
        let mut errors = ErrorList::new();
        let all = stages(&omit_stages, &Path::new("omitStages"), &mut errors);
        let path = Path::new("rules");
        let mut parsed = Vec::with_capacity(rules.len());
        for (at, rule) in rules.into_iter().enumerate() {
            let path = path.index(at);
            let level = rule.validate(&path, &mut errors);
            let mut omitted = stages(&rule.omit_stages, &path.child("omitStages"), &mut errors);
            omitted.extend(&all);
            let omit_managed_fields = rule.omit_managed_fields.unwrap_or(omit_managed_fields);
            parsed.push((rule, Rule { level, omitted, omit_managed_fields }));
        }
        if !errors.is_empty() {
            return Err(PolicyError::Invalid(errors));
        }
        if parsed.is_empty() {
            return Err(PolicyError::Empty);
        }
        Ok(Self { rules: parsed, otherwise: Rule { level: Level::None, omitted: all, omit_managed_fields } })
    }

    /// What is to be told of a request.
    pub fn rule(&self, asked: &Attributes<'_>) -> Rule {
        let found = self.rules.iter().find(|(document, _)| document.matches(asked));
        found.map_or(&self.otherwise, |(_, rule)| rule).clone()
    }
}

fn stages(names: &[String], path: &Path, errors: &mut ErrorList) -> Vec<Stage> {
    let mut stages = Vec::new();
    for (at, name) in names.iter().enumerate() {
        stages.push(match name.as_str() {
            "RequestReceived" => Stage::RequestReceived,
            "ResponseStarted" => Stage::ResponseStarted,
            "ResponseComplete" => Stage::ResponseComplete,
            "Panic" => Stage::Panic,
            other => {
                let why = format!("allowed stages are {}", STAGES.join(","));
                errors.push(Error::invalid(&path.index(at), other, why));
                continue;
            }
        });
    }
    stages
}

impl RuleDocument {
    fn validate(&self, path: &Path, errors: &mut ErrorList) -> Level {
        let level = match self.level.as_str() {
            "None" => Level::None,
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            other => {
                let at = path.child("level");
                errors.push(match other {
                    "" => Error::required(&at, ""),
                    other => Error::not_supported(&at, other, &LEVELS),
                });
                Level::None
            }
        };
        let at = path.child("nonResourceURLs");
        for (index, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let at = at.index(index);
            if !url.starts_with('/') {
                let why = "non-resource URL rules must begin with a '/' character";
                errors.push(Error::invalid(&at, url.as_str(), why));
            }
            if url.find('*').is_some_and(|star| star + 1 < url.len()) {
                let why = "non-resource URL wildcards '*' must be the final character of the rule";
                errors.push(Error::invalid(&at, url.as_str(), why));
            }
        }
        for resources in &self.resources {
            let path = path.child("resources");
            let group = resources.group.as_str();
            if !matches!(group, "" | "*") {
                let faults = names::dns_subdomain(group);
                if !faults.is_empty() {
                    errors.push(Error::invalid(&path.child("group"), group, faults.join(",")));
                }
            }
            if !resources.resource_names.is_empty() && resources.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                let given = resources.resource_names.clone();
                errors.push(Error::invalid(&path.child("resourceNames"), given, why));
            }
        }
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.non_resource_urls.is_empty() {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(Error::invalid(&at, self.non_resource_urls.clone(), why));
        }
        level
    }

    fn matches(&self, asked: &Attributes<'_>) -> bool {
        let listed =
            |list: &[String], value: &str| list.is_empty() || list.iter().any(|known| known == value);
        let in_group = |group: &String| asked.user.in_group(group);
        if !listed(&self.users, &asked.user.name)
            || !(self.user_groups.is_empty() || self.user_groups.iter().any(in_group))
            || !listed(&self.verbs, asked.verb)
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let Target::Resource(target) = &asked.target else { return false };
            return listed(&self.namespaces, target.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|known| known.matches(target)));
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        let Target::Path(path) = asked.target else { return false };
        self.non_resource_urls.iter().any(|spec| {
            let begin = spec.strip_suffix('*').map(|begin| begin.trim_end_matches('*'));
            spec == path || begin.is_some_and(|begin| path.starts_with(begin))
        })
    }
}

impl GroupResources {
    fn matches(&self, target: &ResourceTarget<'_>) -> bool {
        if self.group != "*" && self.group != target.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.iter().any(|name| name == target.name) {
            return false;
        }
        self.resources.iter().any(|spec| match (spec.as_str(), spec.split_once('/')) {
            ("*", _) => true,
            (_, Some(("*", subresource))) => subresource == target.subresource,
            (_, Some((resource, "*"))) => resource == target.resource,
            (_, Some((resource, subresource))) => {
                resource == target.resource && subresource == target.subresource
            }
            (resource, None) => resource == target.resource && target.subresource.is_empty(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::UserInfo;

    fn level(policy: &Policy, user: &str, verb: &str, target: Target<'_>) -> Level {
        let user = UserInfo::new(user, ["devs"]);
        policy.rule(&Attributes { user: &user, verb, target }).level
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = Policy::parse(
            r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch]}
- {level: RequestResponse, resources: [{group: "", resources: ["pods", "*/scale", "services/*"]}]}
- {level: Request, namespaces: [kube-system], resources: [{group: "", resources: [configmaps], resourceNames: [a]}]}
- {level: None, nonResourceURLs: ["/healthz*", "/version"]}
- {level: Metadata, userGroups: [devs], omitStages: [Panic]}
"#,
        )
        .unwrap();
        let on = |resource, subresource, namespace, name| {
            Target::Resource(ResourceTarget {
                resource,
                subresource,
                namespace,
                name,
                ..ResourceTarget::default()
            })
        };
        assert_eq!(level(&policy, "system:kube-proxy", "watch", on("pods", "", "", "")), Level::None);
        assert_eq!(level(&policy, "a", "get", on("pods", "", "", "")), Level::RequestResponse);
        assert_eq!(level(&policy, "a", "get", on("pods", "log", "", "")), Level::Metadata);
        assert_eq!(level(&policy, "a", "get", on("x", "scale", "", "")), Level::RequestResponse);
        assert_eq!(level(&policy, "a", "get", on("services", "proxy", "", "")), Level::RequestResponse);
        assert_eq!(level(&policy, "a", "get", on("configmaps", "", "kube-system", "a")), Level::Request);
        assert_eq!(level(&policy, "a", "get", on("configmaps", "", "kube-system", "b")), Level::Metadata);
        assert_eq!(level(&policy, "a", "get", Target::Path("/healthz/etcd")), Level::None);
        assert_eq!(level(&policy, "a", "get", Target::Path("/apis")), Level::Metadata);
        let user = UserInfo::new("a", ["devs"]);
        let rule = policy.rule(&Attributes { user: &user, verb: "get", target: Target::Path("/apis") });
        assert_eq!(rule.omitted, [Stage::Panic, Stage::RequestReceived]);
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_said() {
        let parse = |rules: &str| {
            let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}");
            Policy::parse(&text).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(parse("[]"), "loaded illegal policy with 0 rules");
        assert!(parse("[{}]").contains("rules[0].level: Required value"), "{}", parse("[{}]"));
        let bad = parse(r#"[{level: Some, nonResourceURLs: ["a*b"], omitStages: [Never]}]"#);
        for part in [
            "Unsupported value: \"Some\"",
            "must begin with a '/'",
            "must be the final",
            "allowed stages are",
        ] {
            assert!(bad.contains(part), "{part}: {bad}");
        }
        let old = Policy::parse("apiVersion: audit.k8s.io/v1beta1\nkind: Policy").err().unwrap().to_string();
        assert!(old.contains("unknown group version"), "{old}");
    }
}
