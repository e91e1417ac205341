//! What calls really cost.

use crate::cel::cost::{LIST_CREATE, REGEX_LENGTH, STRING_TRAVERSAL, scale, selector_cost};
use crate::cel::value::{Opaque, Value};

fn traversal(size: u64) -> u64 {
    scale(size, STRING_TRAVERSAL)
}

/// A regular expression on a text; one is added so that an empty text is not free.
fn regex(text: u64, pattern: u64) -> u64 {
    traversal(text.saturating_add(1)).saturating_mul(scale(pattern, REGEX_LENGTH))
}

/// The cost of looking at everything in a value.
fn whole(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => scale(text.len() as u64, STRING_TRAVERSAL),
        Value::Bytes(bytes) => scale(bytes.len() as u64, STRING_TRAVERSAL),
        Value::List(list) => list.iter().flatten().fold(0, |sum, item| sum.saturating_add(whole(&item))),
        Value::Map(map) => {
            let entries = map.entries().unwrap_or_default();
            entries
                .iter()
                .fold(0, |sum, (key, value)| sum.saturating_add(whole(key)).saturating_add(whole(value)))
        }
        _ => 1,
    }
}

/// Making a list takes as many steps as this, times a factor.
fn list(factor: f64, size: u64) -> u64 {
    scale(size, factor).saturating_add(1 + LIST_CREATE)
}

fn self_comparison(keys: &Value<'_>) -> u64 {
    let size = keys.cost_size();
    let text = match keys {
        Value::List(list) => matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_)))),
        _ => false,
    };
    list(if text { 2.0 + STRING_TRAVERSAL } else { 2.0 }, size.saturating_mul(size))
}

/// The part that is known before the call; none for what depends on the result.
pub(super) fn before(function: &str, overload: &str, args: &[Value<'_>]) -> Option<u64> {
    let size = |at: usize| args.get(at).map_or(0, Value::cost_size);
    Some(match function {
        "join" | "slice" | "lists.range" | "reverse" => return None,
        "check" => 350_000,
        "fieldSelector" | "labelSelector" => selector_cost(size(1)),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, whole),
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => traversal(size(0)),
        "ip" if overload == "cidr_ip" => 1,
        "ip" => traversal(size(0)),
        "replace" | "split" | "ip.isCanonical" => scale(size(0), 2.0 * STRING_TRAVERSAL),
        "find" | "findAll" | "matches" => regex(size(0), size(1)),
        "containsIP" => contained(args, overload),
        "containsCIDR" => contained(args, overload).saturating_add(traversal(size(0)) + 1),
        "validate" => validate(args),
        "contains" => traversal(size(0)).saturating_mul(traversal(size(1))),
        "startsWith" | "endsWith" | "strings.quote" | "format" => traversal(size(0)),
        "bytes" if overload == "string_to_bytes" => traversal(size(0)),
        "string" if overload == "bytes_to_string" => traversal(size(0)),
        "@in" if overload == "in_list" => size(1),
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)).saturating_add(1),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2).saturating_add(1),
        "flatten" => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => u64::try_from(*depth).unwrap_or(0),
                _ => 1,
            };
            list(1.0, size(0).saturating_mul(depth))
        }
        "distinct" | "sort" => args.first().map_or(0, self_comparison),
        "@sortByAssociatedKeys" => args.get(1).map_or(0, self_comparison),
        "_==_" if matches!(args.first(), Some(Value::Opaque(_))) => 1,
        "_==_" | "_!=_" => traversal(size(0).min(size(1))),
        "_<_" | "_<=_" | "_>_" | "_>=_" if overload.ends_with("_string") || overload.ends_with("_bytes") => {
            traversal(size(0).min(size(1)))
        }
        "_+_" if matches!(overload, "add_string" | "add_bytes") => traversal(size(0).saturating_add(size(1))),
        _ => 1,
    })
}

/// The part that the result tells.
pub(super) fn after(function: &str, result: &Value<'_>) -> Option<u64> {
    let made = result.cost_size();
    match function {
        "join" => Some(scale(made, 2.0 * STRING_TRAVERSAL)),
        "slice" | "lists.range" | "reverse" => Some(list(1.0, made)),
        _ => None,
    }
}

fn contained(args: &[Value<'_>], overload: &str) -> u64 {
    let size = |at: usize| args.get(at).map_or(0, Value::cost_size);
    let parse = if overload.ends_with("_string") { traversal(size(1)) } else { 0 };
    traversal(size(0) * 2).saturating_add(parse)
}

fn validate(args: &[Value<'_>]) -> u64 {
    let [Value::Opaque(value), text] = args else { return 1 };
    match &**value {
        Opaque::Format(format) => regex(text.cost_size(), format.pattern_size),
        _ => 1,
    }
}
