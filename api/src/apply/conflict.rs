//! Conflicts: fields an applier would change that others own.

use std::collections::BTreeMap;

use crate::field::quote;
use crate::status::{Cause, cause};

use super::element::{PathElement, show_path};
use super::entries::{Manager, Owned};
use super::set::Set;

/// Which fields of which managers stand in the way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conflicts(Vec<(Manager, Vec<PathElement>)>);

impl Conflicts {
    pub fn of(sets: &BTreeMap<Manager, Owned>) -> Self {
        let mut conflicts = Vec::new();
        for (manager, owned) in sets {
            owned.set.for_each(&mut |path| conflicts.push((manager.clone(), path.to_vec())));
        }
        Self(conflicts)
    }

    /// The conflicts without those over members of `allowed`.
    pub fn without(&self, allowed: &Set) -> Self {
        Self(self.0.iter().filter(|(_, path)| !allowed.contains(path)).cloned().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn causes(&self) -> Vec<Cause> {
        let told = |(manager, path): &(Manager, Vec<PathElement>)| {
            let message = format!("conflict with {}", show_manager(manager));
            Cause::new(cause::FIELD_MANAGER_CONFLICT, show_path(path), message)
        };
        self.0.iter().map(told).collect()
    }

    pub fn message(&self) -> String {
        if let [(manager, path)] = self.0.as_slice() {
            let (manager, path) = (show_manager(manager), show_path(path));
            return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        let mut by_manager: BTreeMap<&Manager, Vec<String>> = BTreeMap::new();
        for (manager, path) in &self.0 {
            by_manager.entry(manager).or_default().push(format!("- {}", show_path(path)));
        }
        let lines = by_manager.into_iter().map(|(manager, paths)| {
            format!("conflicts with {}:\n{}", show_manager(manager), paths.join("\n"))
        });
        let lines: Vec<String> = lines.collect();
        format!("Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}

fn show_manager(manager: &Manager) -> String {
    let mut shown = quote(&manager.name);
    if !manager.subresource.is_empty() {
        shown = format!("{shown} with subresource {}", quote(&manager.subresource));
    }
    if manager.applies { shown } else { format!("{shown} using {}", manager.api_version) }
}
