//! What one write does to ownership, and what apply does to the object.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::schema::TypeRef;

use super::compare::{Comparison, compare};
use super::conflict::Conflicts;
use super::entries::{Manager, Owned};
use super::field_manager::{Converter, ResetFields};
use super::merge::merge;
use super::reconcile::reconcile;
use super::remove::remove;
use super::schema::Schema;
use super::set::Set;
use super::to_set::to_set;
use super::value::equal;

type Managers = BTreeMap<Manager, Owned>;

/// Computes ownership for one version of a kind.
pub(super) struct Updater<'a> {
    pub converter: &'a dyn Converter,
    /// The version objects are given in.
    pub api_version: &'a str,
    pub of: &'a TypeRef,
    pub reset: &'a ResetFields,
}

impl Updater<'_> {
    fn schema(&self) -> Schema<'_> {
        Schema::root(self.of)
    }

    /// `object` in another version, with the type there; none if that version is gone.
    fn convert<'v>(&self, object: &'v Value, api_version: &str) -> Option<(Cow<'v, Value>, TypeRef)> {
        if object["apiVersion"].as_str().unwrap_or(self.api_version) == api_version {
            let of = if api_version == self.api_version {
                self.of.clone()
            } else {
                self.converter.type_of(api_version)?
            };
            return Some((Cow::Borrowed(object), of));
        }
        let of = self.converter.type_of(api_version)?;
        Some((Cow::Owned(self.converter.convert(object, api_version)?), of))
    }

    /// Ownership after `live` became `new` by the hand of `manager`.
    pub fn update(&self, live: &Value, new: &Value, managers: &mut Managers, manager: &Manager) {
        self.reconcile(live, managers);
        let comparison = self.change(live, new, managers, manager);
        let before = managers.remove(manager).map(|owned| owned.set).unwrap_or_default();
        let mut set = before.difference(&comparison.removed);
        set.extend(&comparison.modified);
        set.extend(&comparison.added);
        let set = self.reset.filter(self.api_version, set);
        if !set.is_empty() {
            let owned = Owned { set, api_version: self.api_version.to_owned(), applied: false };
            managers.insert(manager.clone(), owned);
        }
    }

    /// The object after applying `config`, none if nothing changes; `managers` are changed accordingly.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        managers: &mut Managers,
        manager: &Manager,
        force: bool,
    ) -> Result<Option<Value>, Conflicts> {
        self.reconcile(live, managers);
        let merged = merge(live, config, self.schema());
        let last = managers.get(manager).cloned();
        let set = self.reset.filter(self.api_version, to_set(config, self.schema()));
        let owned = Owned { set, api_version: self.api_version.to_owned(), applied: true };
        managers.insert(manager.clone(), owned);
        let new = self.prune(merged, managers, last.as_ref());
        let (comparisons, conflicts) = self.differences(live, &new, managers, manager);
        if !force && !conflicts.is_empty() {
            return Err(Conflicts::of(&conflicts));
        }
        give_up(managers, manager, &comparisons, &conflicts);
        Ok((!equal(live, &new)).then_some(new))
    }

    /// Takes changed and removed fields from everyone but `manager`; gives what changed in this version.
    fn change(&self, live: &Value, new: &Value, managers: &mut Managers, manager: &Manager) -> Comparison {
        let (mut comparisons, conflicts) = self.differences(live, new, managers, manager);
        give_up(managers, manager, &comparisons, &conflicts);
        comparisons.remove(self.api_version).unwrap_or_default()
    }

    /// What changed, by version, and which of it others own. Managers of versions that are gone go.
    fn differences(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        manager: &Manager,
    ) -> (BTreeMap<String, Comparison>, Managers) {
        let own = self.reset.filter_all(self.api_version, compare(live, new, self.schema()));
        let mut comparisons = BTreeMap::from([(self.api_version.to_owned(), own)]);
        let mut conflicts = Managers::new();
        managers.retain(|other, owned| {
            if other == manager {
                return true;
            }
            if !comparisons.contains_key(&owned.api_version) {
                let versioned =
                    self.convert(live, &owned.api_version).zip(self.convert(new, &owned.api_version));
                let Some(((live, of), (new, _))) = versioned else {
                    return false;
                };
                let comparison = compare(&live, &new, Schema::root(&of));
                let comparison = self.reset.filter_all(&owned.api_version, comparison);
                comparisons.insert(owned.api_version.clone(), comparison);
            }
            let comparison = &comparisons[&owned.api_version];
            let taken = owned.set.intersection(&comparison.modified.union(&comparison.added));
            if !taken.is_empty() {
                conflicts.insert(other.clone(), Owned { set: taken, ..owned.clone() });
            }
            true
        });
        (comparisons, conflicts)
    }

    /// Removes what the applier set last time, does not set now, and nobody else owns.
    fn prune(&self, merged: Value, managers: &Managers, last: Option<&Owned>) -> Value {
        let Some(last) = last.filter(|last| !last.set.is_empty()) else {
            return merged;
        };
        let Some((versioned, of)) = self.convert(&merged, &last.api_version) else {
            return merged;
        };
        let schema = Schema::root(&of);
        let last_set = last.set.with_named_fields(Some(schema));
        let pruned = remove(&versioned, &last_set, schema);
        let pruned = self.add_back_owned(&versioned, pruned, &last.api_version, managers);
        let Some((pruned, _)) = self.convert(&pruned, &last.api_version) else {
            return merged;
        };
        // What goes must have been the applier's: what nobody owns stays.
        let pruned_set = to_set(&pruned, schema).with_named_fields(Some(schema));
        let merged_set = to_set(&versioned, schema).with_named_fields(Some(schema));
        let gone = merged_set.difference(&pruned_set).intersection(&last_set);
        let result = remove(&versioned, &gone, schema);
        match self.convert(&result, self.api_version) {
            Some((result, _)) => result.into_owned(),
            None => merged,
        }
    }

    /// `pruned` with everything of `merged` that someone owns, in whatever version.
    fn add_back_owned(&self, merged: &Value, pruned: Value, first: &str, managers: &Managers) -> Value {
        let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
        for owned in managers.values() {
            by_version.entry(&owned.api_version).or_default().extend(&owned.set);
        }
        // The version pruned in comes first: other versions may need fields that were pruned to convert.
        let mut versions: Vec<&str> = by_version.keys().copied().collect();
        versions.sort_by_key(|version| *version != first);
        let (mut merged, mut pruned) = (Cow::Borrowed(merged), pruned);
        for version in versions {
            let Some((merged_here, of)) = self.convert(&merged, version) else {
                continue;
            };
            let merged_here = merged_here.into_owned();
            let Some((pruned_here, _)) = self.convert(&pruned, version) else {
                continue;
            };
            let schema = Schema::root(&of);
            let named = |set: &Set| set.with_named_fields(Some(schema));
            let kept = named(&to_set(&pruned_here, schema)).union(&named(&by_version[version]));
            let gone = named(&to_set(&merged_here, schema)).difference(&kept);
            pruned = remove(&merged_here, &gone, schema);
            merged = Cow::Owned(merged_here);
        }
        pruned
    }

    /// Brings what managers own in line with the schema as it is now.
    fn reconcile(&self, live: &Value, managers: &mut Managers) {
        managers.retain(|_, owned| {
            let of = match self.convert(live, &owned.api_version) {
                Some((_, of)) => of,
                None => return false,
            };
            if let Some(set) = reconcile(&owned.set, Schema::root(&of)) {
                owned.set = set;
            }
            true
        });
    }
}

/// Takes fields from their owners: those that were changed over their heads, and those that are gone.
fn give_up(
    managers: &mut Managers,
    manager: &Manager,
    comparisons: &BTreeMap<String, Comparison>,
    conflicts: &Managers,
) {
    for (other, owned) in managers.iter_mut().filter(|(other, _)| *other != manager) {
        if let Some(taken) = conflicts.get(other) {
            owned.set = owned.set.difference(&taken.set);
        }
        if let Some(comparison) = comparisons.get(&owned.api_version) {
            owned.set = owned.set.difference(&comparison.removed);
        }
    }
    managers.retain(|_, owned| !owned.set.is_empty());
}
