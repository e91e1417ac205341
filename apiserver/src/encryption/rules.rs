//! Which resources are encrypted with what, and which resource a key of the store belongs to.

use std::collections::HashMap;

use super::provider::{Chain, Provider};
use crate::cache::ROOT;
use crate::catalogue;

/// `secrets`, `deployments.apps`, `*.`, `*.apps`, `*.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    Everything,
    Group(String),
    One { group: String, resource: String },
}

impl Pattern {
    pub fn parse(name: &str) -> Self {
        match name.split_once('.').unwrap_or((name, "")) {
            ("*", "*") => Self::Everything,
            ("*", group) => Self::Group(group.to_owned()),
            (resource, group) => Self::One { group: group.to_owned(), resource: resource.to_owned() },
        }
    }

    /// Whether everything that `other` means is also meant by this.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everything, _) => true,
            (Self::Group(all), Self::Group(group) | Self::One { group, .. }) => all == group,
            _ => self == other,
        }
    }
}

/// A whole configuration.
pub struct Rules {
    chosen: Vec<(Pattern, Chain)>,
    /// By the prefix of a built-in resource's keys.
    builtin: HashMap<String, Option<Chain>>,
}

impl Rules {
    /// The narrowest pattern decides; of equal ones the first.
    pub fn new(parts: Vec<(Vec<Pattern>, Vec<Provider>)>) -> Self {
        let chains = parts.into_iter().map(|(patterns, providers)| (patterns, Chain::new(providers)));
        let chosen: Vec<(Pattern, Chain)> = chains
            .flat_map(|(patterns, chain)| patterns.into_iter().map(move |pattern| (pattern, chain.clone())))
            .collect();
        let builtin = catalogue::stored_prefixes()
            .map(|(prefix, facts)| (prefix, choose(&chosen, facts.group, facts.name).cloned()))
            .collect();
        Self { chosen, builtin }
    }

    /// What a key's value is encrypted with; `None` for values that are stored as they are.
    pub fn of(&self, key: &str) -> Option<&Chain> {
        let rest = key.strip_prefix(ROOT)?;
        let first = ROOT.len() + rest.find('/')? + 1;
        let second = key[first..].find('/').map(|at| first + at + 1);
        let known = second.and_then(|end| self.builtin.get(&key[..end]));
        if let Some(known) = known.or_else(|| self.builtin.get(&key[..first])) {
            return known.as_ref();
        }
        // Custom resources lie under their group and plural; what has no dot is no group.
        let (group, resource) = (&key[ROOT.len()..first - 1], &key[first..second? - 1]);
        group.contains('.').then(|| choose(&self.chosen, group, resource))?
    }
}

fn choose<'a>(chosen: &'a [(Pattern, Chain)], group: &str, resource: &str) -> Option<&'a Chain> {
    let one = Pattern::One { group: group.to_owned(), resource: resource.to_owned() };
    let tiers = [one, Pattern::Group(group.to_owned()), Pattern::Everything];
    let find = |tier: &Pattern| chosen.iter().find(|(pattern, _)| pattern == tier);
    tiers.iter().find_map(find).map(|(_, chain)| chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_matched_with_the_narrowest_rule() {
        let parse = |names: &[&str]| names.iter().map(|name| Pattern::parse(name)).collect::<Vec<_>>();
        let rules = Rules::new(vec![
            (parse(&["secrets", "widgets.example.com"]), vec![Provider::identity()]),
            (parse(&["*.apps"]), vec![Provider::identity()]),
        ]);
        let table = [
            ("/registry/secrets/default/a", true),
            ("/registry/configmaps/default/a", false),
            ("/registry/deployments/default/a", true),
            ("/registry/example.com/widgets/default/a", true),
            ("/registry/example.com/gadgets/default/a", false),
            ("/registry/ranges/node-ports/30000", false),
            ("/elsewhere", false),
        ];
        for (key, encrypted) in table {
            assert_eq!(rules.of(key).is_some(), encrypted, "{key}");
        }
        let everything = Rules::new(vec![(parse(&["*.*"]), vec![Provider::identity()])]);
        assert!(everything.of("/registry/services/specs/default/a").is_some());
        assert!(everything.of("/registry/ranges/node-ports/30000").is_none());
    }
}
