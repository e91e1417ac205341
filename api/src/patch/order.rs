//! The order of lists that a strategic merge patch merged.
//!
//! Items the patch names come in the patch's order, the others in the order they had; where both orders are
//! known relative to the old list, the others keep their place among the patch's.

use std::collections::HashMap;

use serde_json::Value;

/// What tells items apart: the value of the merge key, or the item itself.
pub(super) fn identity<'a>(item: &'a Value, merge_key: Option<&str>) -> &'a Value {
    match merge_key {
        Some(key) => item.get(key).unwrap_or(&Value::Null),
        None => item,
    }
}

/// The first position of every identity in `list`.
fn positions<'a>(list: &'a [Value], merge_key: Option<&str>) -> HashMap<&'a Value, usize> {
    let mut positions = HashMap::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        positions.entry(identity(item, merge_key)).or_insert(i);
    }
    positions
}

/// `merged` in order: `patch_order` rules over `server_order`.
pub(super) fn normalize(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    merge_key: Option<&str>,
) -> Vec<Value> {
    let by_patch = positions(patch_order, merge_key);
    let by_server = positions(server_order, merge_key);
    let place = |order: &HashMap<&Value, usize>, item: &Value| order.get(identity(item, merge_key)).copied();
    let (mut patch, mut server): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(&by_patch, item).is_some());
    patch.sort_by_key(|item| place(&by_patch, item));
    server.sort_by_key(|item| place(&by_server, item).unwrap_or(usize::MAX));

    let mut ordered = Vec::with_capacity(patch.len() + server.len());
    let (mut patch, mut server) = (patch.into_iter().peekable(), server.into_iter().peekable());
    loop {
        let server_first = match (server.peek(), patch.peek()) {
            (None, None) => return ordered,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(left), Some(right)) => match (place(&by_server, left), place(&by_server, right)) {
                (Some(left), Some(right)) => left < right,
                _ => false,
            },
        };
        ordered.extend(if server_first { server.next() } else { patch.next() });
    }
}
