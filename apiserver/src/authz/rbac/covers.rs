//! Whether one set of rules grants everything another does: nobody may grant what they do not have.

use std::collections::BTreeMap;

use crate::authz::Rule;
use crate::authz::rule::{ALL, has, path_matches};

/// The atomic rules of `wanted` that no rule of `owned` covers, put together again for reading; empty when
/// everything is covered.
pub fn covers(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let missing =
        wanted.iter().flat_map(atoms).filter(|atom| !owned.iter().any(|rule| covers_atom(rule, atom)));
    compact(missing)
}

/// Splits a rule so that each part has one verb and one resource or path, and at most one name.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let one = |text: &str| vec![Box::from(text)];
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        for (group, resource) in rule
            .api_groups
            .iter()
            .flat_map(|group| rule.resources.iter().map(move |resource| (group, resource)))
        {
            let atom = Rule {
                verbs: one(verb),
                api_groups: one(group),
                resources: one(resource),
                ..Rule::default()
            };
            match rule.resource_names.as_slice() {
                [] => atoms.push(atom),
                names => {
                    atoms.extend(names.iter().map(|name| Rule { resource_names: one(name), ..atom.clone() }))
                }
            }
        }
        atoms.extend(rule.non_resource_urls.iter().map(|url| Rule {
            verbs: one(verb),
            non_resource_urls: one(url),
            ..Rule::default()
        }));
    }
    atoms
}

fn covers_atom(owner: &Rule, atom: &Rule) -> bool {
    let all = |owned: &[Box<str>], wanted: &[Box<str>]| {
        has(owned, ALL) || wanted.iter().all(|item| has(owned, item))
    };
    let names = owner.resource_names.is_empty()
        || (!atom.resource_names.is_empty()
            && atom.resource_names.iter().all(|name| has(&owner.resource_names, name)));
    all(&owner.verbs, &atom.verbs)
        && all(&owner.api_groups, &atom.api_groups)
        && (has(&owner.resources, ALL) || atom.resources.iter().all(|wanted| covers_resource(owner, wanted)))
        && names
        && atom.non_resource_urls.iter().all(|wanted| covers_path(owner, wanted))
}

fn covers_resource(owner: &Rule, wanted: &str) -> bool {
    has(&owner.resources, wanted)
        || wanted.split_once('/').is_some_and(|(_, subresource)| {
            owner.resources.iter().any(|rule| rule.strip_prefix("*/") == Some(subresource))
        })
}

fn covers_path(owner: &Rule, wanted: &str) -> bool {
    owner.non_resource_urls.iter().any(|rule| path_matches(rule, wanted))
}

/// Group, resource and name of a rule that has one of each, or no name.
type Simple = (Box<str>, Box<str>, Option<Box<str>>);

/// Joins rules that differ only in their verbs.
fn compact(atoms: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let mut paths = Vec::new();
    let mut joined: BTreeMap<Simple, Rule> = BTreeMap::new();
    for atom in atoms {
        let ([group], [resource]) = (atom.api_groups.as_slice(), atom.resources.as_slice()) else {
            paths.push(atom);
            continue;
        };
        let key = (group.clone(), resource.clone(), atom.resource_names.first().cloned());
        match joined.get_mut(&key) {
            Some(rule) => rule.verbs.extend(atom.verbs),
            None => {
                joined.insert(key, atom);
            }
        }
    }
    paths.extend(joined.into_values());
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: serde_json::Value) -> Vec<Rule> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_missing_is_named_per_resource() {
        let owned = rules(
            serde_json::json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/log"]}]),
        );
        let wanted = rules(serde_json::json!([
            {"verbs": ["get", "delete", "patch"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}
        ]));
        let missing: Vec<String> = covers(&owned, &wanted).iter().map(Rule::compact).collect();
        assert_eq!(
            missing,
            [
                r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#,
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "patch"]}"#,
                r#"{APIGroups:[""], Resources:["pods/log"], Verbs:["delete" "patch"]}"#,
            ]
        );
    }

    #[test]
    fn names_and_wildcards_cover_as_upstream() {
        let table = [
            (
                r#"[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]"#,
                r#"[{"verbs":["x"],"apiGroups":["a"],"resources":["b/c"]}]"#,
                true,
            ),
            (
                r#"[{"verbs":["get"],"apiGroups":[""],"resources":["a"],"resourceNames":["n"]}]"#,
                r#"[{"verbs":["get"],"apiGroups":[""],"resources":["a"]}]"#,
                false,
            ),
            (
                r#"[{"verbs":["get"],"apiGroups":[""],"resources":["a"]}]"#,
                r#"[{"verbs":["get"],"apiGroups":[""],"resources":["a"],"resourceNames":["n"]}]"#,
                true,
            ),
            (
                r#"[{"verbs":["get"],"apiGroups":[""],"resources":["a"]}]"#,
                r#"[{"verbs":["*"],"apiGroups":[""],"resources":["a"]}]"#,
                false,
            ),
            (
                r#"[{"verbs":["get"],"nonResourceURLs":["/api*"]}]"#,
                r#"[{"verbs":["get"],"nonResourceURLs":["/apis/x"]}]"#,
                true,
            ),
        ];
        for (owned, wanted, covered) in table {
            let parse = |text: &str| rules(serde_json::from_str(text).unwrap());
            assert_eq!(covers(&parse(owned), &parse(wanted)).is_empty(), covered, "{owned} {wanted}");
        }
    }
}
