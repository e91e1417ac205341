//! Resources of a pod as a whole, which must suffice for its containers.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use knarr_api::quantity::Quantity;

use super::amounts;
use crate::resources::at::At;
use crate::resources::core::pod::level_resources;

pub fn validate(spec: &At<'_>, claims: &BTreeSet<&str>, errors: &mut ErrorList) {
    let Some(resources) = spec.some("resources") else { return };
    if spec.at("os").text("name") == "windows" {
        errors.push(resources.forbidden("may not be set for a windows pod"));
        return;
    }
    if resources.has("claims") {
        errors.push(resources.at("claims").forbidden("claims may not be set for Resources at pod-level"));
    }
    amounts::requirements(&resources, amounts::pod_name, claims, errors);
    consistency(spec, &resources, errors);
}

fn consistency(spec: &At<'_>, resources: &At<'_>, errors: &mut ErrorList) {
    let Some(value) = spec.value() else { return };
    let own = |kind: &str, name: &str| -> Option<Quantity> {
        Quantity::from_json(resources.get(kind)?.get(name)?).ok()
    };
    for kind in ["requests", "limits"] {
        let counted = |name: &str| kind == "requests" || amounts::is_huge_pages(name);
        for (name, needed) in level_resources::aggregate(value, kind) {
            let Some(amount) = own(kind, &name).filter(|amount| counted(&name) && needed > *amount) else {
                continue;
            };
            let path = resources.path().child(kind).key(name);
            let detail = format!("must be greater than or equal to aggregate container {kind} of {needed}");
            errors.push(Error::invalid(&path, amount.to_string(), detail));
        }
    }
    for (i, container) in spec.list("containers").iter().enumerate() {
        let container = At::new(Some(container), resources.path().child("containers").index(i));
        for (name, limit) in container.at("resources").entries("limits") {
            let (Some(limit), Some(most)) = (limit.quantity(), own("limits", name)) else { continue };
            if limit > most {
                let path = container.path().key(name.to_owned()).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(Error::invalid(&path, limit.to_string(), detail));
            }
        }
    }
}
