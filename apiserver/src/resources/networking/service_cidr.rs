//! ServiceCIDRs: where cluster addresses come from.

use knarr_api::field::{ErrorList, IMMUTABLE};
use knarr_api::names;
use serde_json::Value;

use crate::registry::{Context, Strategy};
use crate::resources::at::At;

pub struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }
}

fn ranges(object: &Value) -> (At<'_>, Vec<&str>) {
    let spec = At::root(object).at("spec");
    let ranges = spec.texts("cidrs").collect();
    (spec.at("cidrs"), ranges)
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (field, ranges) = ranges(object);
    match ranges.len() {
        0 => errors.push(field.required("at least one CIDR required")),
        1 | 2 => {
            for (at, range) in ranges.iter().enumerate() {
                errors.extend(names::cidr(&field.path().index(at), range));
            }
            let family = |range: &str| names::parse_cidr_sloppy(range).map(|(address, _)| address.is_ipv4());
            if let [a, b] = ranges[..]
                && family(a).is_some()
                && family(a) == family(b)
            {
                let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                errors.push(field.invalid(detail));
            }
        }
        _ => {
            let spec = At::root(object).at("spec").value().cloned().unwrap_or_default();
            errors.push(field.invalid_as(spec, "may only hold up to 2 values"));
        }
    }
    errors
}

/// A second family may be added; nothing else changes.
fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let ((field, new), (_, old)) = (ranges(object), ranges(old));
    let mut kept = |count: usize| {
        for (at, (new, _)) in
            new.iter().zip(&old).enumerate().take(count).filter(|(_, (new, old))| new != old)
        {
            errors.push(knarr_api::field::Error::invalid(&field.path().index(at), *new, IMMUTABLE));
        }
    };
    match (old.len(), new.len()) {
        (before, after) if before == after => kept(after),
        (1, 2) => {
            kept(1);
            errors.extend(validate(object));
        }
        _ => errors.push(field.invalid(IMMUTABLE)),
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn ranges_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "a"},
            "spec": {"cidrs": ["10.0.0.0/16"]}});
        check(
            &ServiceCidr,
            validate,
            &valid,
            &[
                ("/spec/cidrs", json!([]), "spec.cidrs: Required value: at least one CIDR required"),
                ("/spec/cidrs", json!(["10.0.0.0/16", "2001:db8::/64"]), ""),
                (
                    "/spec/cidrs",
                    json!(["10.0.0.0/16", "10.1.0.0/16"]),
                    "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"10.1.0.0/16\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ),
            ],
        );
        check_updates(
            &ServiceCidr,
            update,
            &valid,
            &[
                ("/spec/cidrs", json!(["10.0.0.0/16", "2001:db8::/64"]), ""),
                (
                    "/spec/cidrs",
                    json!(["10.1.0.0/16"]),
                    "spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable",
                ),
                ("/spec/cidrs", json!([]), "spec.cidrs: Invalid value: "),
            ],
        );
    }
}
