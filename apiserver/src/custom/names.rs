//! Which of the names that a definition asks for it gets, and the conditions that say so.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::approval::{self, Approval};
use super::definition::{Definition, Names};

const APPROVAL: &str = "KubernetesAPIApprovalPolicyConformant";

/// Names in use in a group by other definitions.
#[derive(Debug, Default)]
pub struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    pub fn collect<'a>(definition: &Definition, others: impl Iterator<Item = &'a Definition>) -> Self {
        let mut taken = Self::default();
        for other in others.filter(|other| other.spec.group == definition.spec.group) {
            let names = &other.status.accepted_names;
            taken.resources.extend([names.plural.clone(), names.singular.clone()]);
            taken.resources.extend(names.short_names.iter().cloned());
            taken.kinds.extend([names.kind.clone(), names.list_kind.clone()]);
        }
        taken.resources.remove("");
        taken.kinds.remove("");
        taken
    }
}

/// The status that the definition should have, `None` when it has it.
pub fn status(definition: &Definition, taken: &Taken, now: &str) -> Option<Value> {
    let (names, conflict) = accept(&definition.spec.names, &definition.status.accepted_names, taken);
    let mut conditions = definition.status.conditions.clone();
    let accepted = match &conflict {
        None => condition("NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
        Some((reason, message)) => condition("NamesAccepted", "False", reason, message, now),
    };
    set(&mut conditions, accepted);
    if !definition.is_established() {
        let established = match &conflict {
            None => {
                let message = "the initial names have been accepted";
                condition("Established", "True", "InitialNamesAccepted", message, now)
            }
            Some(_) => condition("Established", "False", "NotAccepted", "not all names are accepted", now),
        };
        set(&mut conditions, established);
    }
    // A schema that is not structural is refused, so nothing is to be said of one.
    conditions.retain(|known| known["type"] != "NonStructuralSchema");
    let approving = approval(definition, now);
    match approving {
        Some(condition) => set(&mut conditions, condition),
        None => conditions.retain(|known| known["type"] != APPROVAL),
    }
    let mut stored = definition.status.stored_versions.clone();
    if let Some(version) = definition.storage_version()
        && !stored.contains(&version.name)
    {
        stored.push(version.name.clone());
    }
    let before = &definition.status;
    if conditions == before.conditions && names == before.accepted_names && stored == before.stored_versions {
        return None;
    }
    Some(json!({"conditions": conditions, "acceptedNames": names, "storedVersions": stored}))
}

/// Whether a definition in a group of the Kubernetes project was approved.
fn approval(definition: &Definition, now: &str) -> Option<Value> {
    if !approval::is_protected(&definition.spec.group) {
        return None;
    }
    let annotation = definition.metadata.annotations.get(approval::ANNOTATION);
    let (approval, why) = Approval::read(annotation.map(String::as_str).unwrap_or_default());
    let (status, reason) = approval.condition();
    Some(condition(APPROVAL, status, reason, &why, now))
}

/// The names accepted, and why others are not.
fn accept(wanted: &Names, accepted: &Names, taken: &Taken) -> (Names, Option<(&'static str, String)>) {
    let mut names = accepted.clone();
    let mut conflict = None;
    let mut one = |wanted: &str, slot: &mut String, taken: &BTreeSet<String>, reason: &'static str| {
        if wanted == slot || !taken.contains(wanted) {
            wanted.clone_into(slot);
        } else {
            conflict = Some((reason, format!("{wanted:?} is already in use")));
        }
    };
    one(&wanted.plural, &mut names.plural, &taken.resources, "PluralConflict");
    one(&wanted.singular, &mut names.singular, &taken.resources, "SingularConflict");
    one(&wanted.kind, &mut names.kind, &taken.kinds, "KindConflict");
    one(&wanted.list_kind, &mut names.list_kind, &taken.kinds, "ListKindConflict");
    let clash = wanted
        .short_names
        .iter()
        .find(|name| !accepted.short_names.contains(name) && taken.resources.contains(*name));
    match clash {
        Some(name) => conflict = Some(("ShortNamesConflict", format!("{name:?} is already in use"))),
        None => names.short_names.clone_from(&wanted.short_names),
    }
    names.categories.clone_from(&wanted.categories);
    (names, conflict)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
}

/// Puts a condition in; one that says the same stays as it is.
fn set(conditions: &mut Vec<Value>, condition: Value) {
    let same = |known: &Value, field: &str| known[field] == condition[field];
    match conditions.iter_mut().find(|known| same(known, "type")) {
        Some(known) if ["status", "reason", "message"].iter().all(|field| same(known, field)) => {}
        Some(known) => {
            let since = known["lastTransitionTime"].take();
            let kept = known["status"] == condition["status"];
            *known = condition;
            if kept {
                known["lastTransitionTime"] = since;
            }
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str) -> Definition {
        let names = Names { plural: plural.into(), kind: kind.into(), ..Names::default() };
        let mut definition = Definition::default();
        definition.spec.names = names;
        definition
    }

    #[test]
    fn names_in_use_are_not_accepted_and_the_rest_is() {
        let mut first = definition("widgets", "Widget");
        let status = status(&first, &Taken::default(), "now").unwrap();
        assert_eq!(status["conditions"][1]["reason"], "InitialNamesAccepted");
        first.status = serde_json::from_value(status).unwrap();
        assert!(super::status(&first, &Taken::default(), "later").is_none());
        let second = definition("gadgets", "Widget");
        let taken = Taken::collect(&second, [&first].into_iter());
        let refused = super::status(&second, &taken, "now").unwrap();
        assert_eq!(refused["conditions"][0]["reason"], "KindConflict");
        assert_eq!(refused["conditions"][1]["reason"], "NotAccepted");
        assert_eq!(refused["acceptedNames"]["plural"], "gadgets");
    }
}
