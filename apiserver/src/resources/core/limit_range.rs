//! LimitRanges.

use std::collections::{BTreeMap, BTreeSet};

use knarr_api::field::ErrorList;
use knarr_api::names;
use knarr_api::quantity::Quantity;
use serde_json::Value;

use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;
use crate::resources::pod_spec::amounts;

const KINDS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub struct LimitRange;

impl Strategy for LimitRange {
    fn set_defaults(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec") else { return };
        for limit in fill::items(spec, "limits") {
            KINDS.iter().for_each(|kind| fill::round_up(limit, kind));
            if limit.get("type").and_then(Value::as_str) == Some("Container") {
                fill::entries(limit, "default", "max");
                fill::entries(limit, "defaultRequest", "default");
                fill::entries(limit, "defaultRequest", "min");
            }
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for limit in At::root(object).at("spec").items("limits") {
        let kind = limit.at("type");
        type_name(&kind, &mut errors);
        if !seen.insert(kind.str()) {
            errors.push(kind.duplicate());
        }
        let found = names_of(&limit, kind.str(), &mut errors);
        let storage = |field: &str| limit.get(field).is_some_and(|amounts| amounts.get("storage").is_some());
        if kind.str() == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(limit.at("limits").required(detail));
        }
        found.iter().for_each(|name| compare(&limit, name, &mut errors));
    }
    errors
}

fn type_name(kind: &At<'_>, errors: &mut ErrorList) {
    let wrong = names::qualified_name(kind.str());
    if wrong.is_empty() {
        let standard = matches!(kind.str(), "Pod" | "Container" | "PersistentVolumeClaim");
        if !kind.str().contains('/') && !standard {
            errors.push(kind.invalid("must be a standard limit type or fully qualified"));
        }
    }
    errors.extend(wrong.into_iter().map(|wrong| kind.invalid(wrong)));
}

/// The resources that the limit is about.
fn names_of<'a>(limit: &At<'a>, kind: &str, errors: &mut ErrorList) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for field in KINDS {
        if kind == "Pod" && matches!(field, "default" | "defaultRequest") {
            if limit.filled(field) {
                errors.push(limit.at(field).forbidden("may not be specified when `type` is 'Pod'"));
            }
            continue;
        }
        for (name, at) in limit.entries(field) {
            if matches!(kind, "Pod" | "Container") {
                amounts::container_name(name, &at, errors);
            } else {
                amounts::name(name, &at, errors);
            }
            found.insert(name);
        }
    }
    found
}

fn compare(limit: &At<'_>, name: &str, errors: &mut ErrorList) {
    let known: BTreeMap<&str, Quantity> = KINDS
        .iter()
        .filter_map(|kind| Some((*kind, Quantity::from_json(limit.get(kind)?.get(name)?).ok()?)))
        .collect();
    let is_pod = limit.text("type") == "Pod";
    let amount = |kind: &str| known.get(kind).filter(|_| !is_pod || !kind.starts_with("default"));
    let mut refuse = |field: &'static str, shown: &Quantity, detail: String| {
        let path = limit.path().child(field).key(name.to_owned());
        errors.push(knarr_api::field::Error::invalid(&path, shown.to_string(), detail));
    };
    let (min, max) = (amount("min"), amount("max"));
    let (default, request) = (amount("default"), amount("defaultRequest"));
    if let (Some(min), Some(max)) = (min, max).and_if(|min, max| min > max) {
        refuse("min", min, format!("min value {min} is greater than max value {max}"));
    }
    if let (Some(request), Some(min)) = (request, min).and_if(|request, min| min > request) {
        refuse(
            "defaultRequest",
            request,
            format!("min value {min} is greater than default request value {request}"),
        );
    }
    if let (Some(request), Some(max)) = (request, max).and_if(|request, max| request > max) {
        refuse(
            "defaultRequest",
            request,
            format!("default request value {request} is greater than max value {max}"),
        );
    }
    if let (Some(request), Some(default)) = (request, default).and_if(|request, default| request > default) {
        let detail = format!("default request value {request} is greater than default limit value {default}");
        refuse("defaultRequest", request, detail);
    }
    if let (Some(default), Some(min)) = (default, min).and_if(|default, min| min > default) {
        refuse("default", min, format!("min value {min} is greater than default value {default}"));
    }
    if let (Some(default), Some(max)) = (default, max).and_if(|default, max| default > max) {
        refuse("default", max, format!("default value {default} is greater than max value {max}"));
    }
    if let Some(ratio) = amount("maxLimitRequestRatio") {
        if ratio.milli_value() < 1000 {
            refuse("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max) {
            let most = max.as_f64() / min.as_f64();
            if ratio.as_f64() > most {
                refuse(
                    "maxLimitRequestRatio",
                    ratio,
                    format!("ratio {ratio} is greater than max/min = {most:.6}"),
                );
            }
        }
    }
    if !amounts::is_overcommit_allowed(name)
        && let (Some(default), Some(request)) =
            (default, request).and_if(|default, request| default != request)
    {
        let detail =
            format!("default value {default} must equal to defaultRequest value {request} in {name}");
        refuse("defaultRequest", request, detail);
    }
}

/// Both amounts, if both are there and they do not go together.
trait AndIf: Sized {
    fn and_if(self, wrong: impl Fn(&Quantity, &Quantity) -> bool) -> Self;
}

impl AndIf for (Option<&Quantity>, Option<&Quantity>) {
    fn and_if(self, wrong: impl Fn(&Quantity, &Quantity) -> bool) -> Self {
        match self {
            (Some(a), Some(b)) if wrong(a, b) => (Some(a), Some(b)),
            _ => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, completed};

    #[test]
    fn limit_ranges_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": "n"},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]},
        });
        let whole = completed(&LimitRange, &valid);
        assert_eq!(whole["spec"]["limits"][0]["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
        check(
            &LimitRange,
            validate,
            &valid,
            &[(
                "/spec/limits/0/min",
                json!({"cpu": "3"}),
                "[spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2, spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": min value 3 is greater than default request value 2, spec.limits[0].default[cpu]: Invalid value: \"3\": min value 3 is greater than default value 2]",
            )],
        );
    }
}
