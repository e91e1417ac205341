//! PriorityLevelConfigurations.

use knarr_api::field::ErrorList;
use serde_json::Value;

use super::conditions;
use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;

const EXEMPT: &str = "exempt";
const MAX_QUEUES: i64 = 10_000_000;
/// A hand is drawn from this many bits of a hash.
const MAX_HASH_BITS: i64 = 60;

pub struct PriorityLevelConfiguration;

impl Strategy for PriorityLevelConfiguration {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            default_spec(spec);
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        conditions(object, &mut errors);
        errors
    }
}

fn default_spec(spec: &mut Value) {
    if let Some(exempt) = spec.get_mut("exempt") {
        fill::nil(exempt, "nominalConcurrencyShares", 0);
        fill::nil(exempt, "lendablePercent", 0);
    }
    if let Some(limited) = spec.get_mut("limited") {
        fill::nil(limited, "nominalConcurrencyShares", 30);
        fill::nil(limited, "lendablePercent", 0);
        if let Some(queuing) = limited.pointer_mut("/limitResponse/queuing") {
            fill::zero(queuing, "handSize", 8);
            fill::zero(queuing, "queues", 64);
            fill::zero(queuing, "queueLengthLimit", 50);
        }
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    let kind = spec.at("type");
    let name = object::name(object);
    if (name == EXEMPT) != (kind.str() == "Exempt") {
        errors.push(kind.invalid("must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind.str() {
        "Exempt" => {
            if spec.has("limited") {
                let detail = "must be nil if the type is not Limited";
                errors.push(spec.at("limited").forbidden(detail));
            }
            shares(&spec.at("exempt"), &mut errors);
        }
        "Limited" => {
            if spec.has("exempt") {
                errors.push(spec.at("exempt").forbidden("must be nil if the type is Limited"));
            }
            match spec.some("limited") {
                Some(level) => limited(&level, &mut errors),
                None => {
                    let detail = "must not be empty when type is Limited";
                    errors.push(spec.at("limited").required(detail));
                }
            }
        }
        _ => errors.push(kind.unsupported(&["Exempt", "Limited"])),
    }
    conditions(object, &mut errors);
    errors
}

fn shares(level: &At<'_>, errors: &mut ErrorList) {
    let nominal = level.at("nominalConcurrencyShares");
    if nominal.i64().is_some_and(|shares| shares < 0) {
        errors.push(nominal.invalid("must be a non-negative integer"));
    }
    percent(level, errors);
}

fn percent(level: &At<'_>, errors: &mut ErrorList) {
    let lendable = level.at("lendablePercent");
    if lendable.i64().is_some_and(|percent| !(0..=100).contains(&percent)) {
        errors.push(lendable.invalid("must be between 0 and 100, inclusive"));
    }
}

fn limited(level: &At<'_>, errors: &mut ErrorList) {
    let nominal = level.at("nominalConcurrencyShares");
    if nominal.i64().is_some_and(|shares| shares < 0) {
        errors.push(nominal.invalid("must be a non-negative integer"));
    }
    let response = level.at("limitResponse");
    let queuing = response.at("queuing");
    match response.text("type") {
        "Reject" if queuing.value().is_some() => {
            errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
        }
        "Reject" => {}
        "Queue" if queuing.value().is_none() => {
            errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
        }
        "Queue" => queues(&queuing, errors),
        _ => errors.push(response.at("type").unsupported(&["Queue", "Reject"])),
    }
    percent(level, errors);
    let borrowing = level.at("borrowingLimitPercent");
    if borrowing.i64().is_some_and(|percent| percent < 0) {
        errors.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
}

fn queues(queuing: &At<'_>, errors: &mut ErrorList) {
    let number = |field: &'static str| (queuing.at(field), queuing.int(field).unwrap_or_default());
    let (at, length) = number("queueLengthLimit");
    if length <= 0 {
        errors.push(at.invalid_as(length, "must be positive"));
    }
    let (at, queues) = number("queues");
    if queues <= 0 {
        errors.push(at.invalid_as(queues, "must be positive"));
    } else if queues > MAX_QUEUES {
        errors.push(at.invalid_as(queues, format!("must not be greater than {MAX_QUEUES}")));
    }
    let (at, hand) = number("handSize");
    let entropy = entropy_bits(queues, hand);
    if hand <= 0 {
        errors.push(at.invalid_as(hand, "must be positive"));
    } else if hand > queues {
        errors.push(at.invalid_as(hand, format!("should not be greater than queues ({queues})")));
    } else if entropy > MAX_HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than \
             {MAX_HASH_BITS}"
        );
        errors.push(at.invalid_as(hand, detail));
    }
}

/// How many bits choosing `hand` of `queues` takes.
fn entropy_bits(queues: i64, hand: i64) -> i64 {
    ((queues.max(1) as f64).log2() * hand as f64).ceil() as i64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn levels_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
            "metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}});
        check(
            &PriorityLevelConfiguration,
            validate,
            &valid,
            &[
                (
                    "/spec/type",
                    json!("Exempt"),
                    "[spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt', spec.limited: Forbidden: must be nil if the type is not Limited]",
                ),
                (
                    "/spec/limited",
                    Value::Null,
                    "spec.limited: Required value: must not be empty when type is Limited",
                ),
                (
                    "/spec/limited/limitResponse/type",
                    json!("Reject"),
                    "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
                ),
                (
                    "/spec/limited/limitResponse/queuing/handSize",
                    json!(65),
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)",
                ),
                (
                    "/spec/limited/limitResponse/queuing/handSize",
                    json!(11),
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 should not be greater than 60",
                ),
                (
                    "/spec/limited/lendablePercent",
                    json!(101),
                    "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
                ),
            ],
        );
    }
}
