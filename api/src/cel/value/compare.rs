//! Equality and order.

use std::cmp::Ordering;

use super::{List, Map, Value};
use crate::cel::types::ListType;
use crate::schema::ListKind;

impl<'a> Value<'a> {
    /// Whether both are equal; numbers of different types are compared by their value.
    pub fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => **a == **b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Opaque(a), Value::Opaque(b)) => a == b,
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Value::List(a), Value::List(b)) => lists_equal(a, b),
            (Value::Map(a), Value::Map(b)) => maps_equal(a, b),
            (a, b) => a.compare(b) == Some(Ordering::Equal),
        }
    }

    /// The order of two values; none if they have none.
    pub fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        Some(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Uint(a), Value::Uint(b)) => a.cmp(b),
            (Value::Double(a), Value::Double(b)) => return a.partial_cmp(b),
            (Value::Int(a), Value::Uint(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Value::Uint(a), Value::Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Value::Int(a), Value::Double(b)) => return compare_whole(i128::from(*a), *b),
            (Value::Uint(a), Value::Double(b)) => return compare_whole(i128::from(*a), *b),
            (Value::Double(a), Value::Int(b)) => {
                return compare_whole(i128::from(*b), *a).map(Ordering::reverse);
            }
            (Value::Double(a), Value::Uint(b)) => {
                return compare_whole(i128::from(*b), *a).map(Ordering::reverse);
            }
            (Value::String(a), Value::String(b)) => (**a).cmp(&**b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
            (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
            _ => return None,
        })
    }
}

fn compare_whole(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double >= 1e38 {
        return Some(Ordering::Less);
    }
    if double <= -1e38 {
        return Some(Ordering::Greater);
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is between the bounds of i128")]
    let order = whole.cmp(&(double.trunc() as i128));
    Some(order.then_with(|| 0.0_f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)))
}

/// How items of a list are told apart, as the schema of the first list says.
fn kind<'a>(list: &List<'a>) -> Option<&'a ListType> {
    match list {
        List::Json(_, of) if of.kind != ListKind::Atomic => Some(of),
        _ => None,
    }
}

fn lists_equal(a: &List<'_>, b: &List<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let Some(of) = kind(a) else {
        return a.iter().zip(b.iter()).all(|pair| matches!(pair, (Ok(a), Ok(b)) if a.equals(&b)));
    };
    a.iter().flatten().all(|item| {
        b.iter()
            .flatten()
            .any(|other| (of.kind == ListKind::Set || same_key(of, &item, &other)) && item.equals(&other))
    })
}

fn maps_equal(a: &Map<'_>, b: &Map<'_>) -> bool {
    let (Ok(a), Ok(b)) = (a.entries(), b.entries()) else { return false };
    a.len() == b.len()
        && a.iter()
            .all(|(key, value)| b.iter().any(|(other, found)| key.equals(other) && value.equals(found)))
}

/// Whether two items of a map-list have the same key.
fn same_key(of: &ListType, a: &Value<'_>, b: &Value<'_>) -> bool {
    let (Value::Map(a), Value::Map(b)) = (a, b) else { return false };
    of.keys.iter().all(|key| {
        let name = crate::cel::escape(key).unwrap_or_else(|| key.clone());
        match (a.get_str(&name), b.get_str(&name)) {
            (Some(Ok(a)), Some(Ok(b))) => a.equals(&b),
            (a, b) => a.is_none() && b.is_none(),
        }
    })
}

impl<'a> List<'a> {
    /// Both lists together: sets and map-lists take each item once, the second list's where both have it.
    pub(in crate::cel) fn concat(&self, other: &List<'a>) -> Result<Vec<Value<'a>>, crate::cel::EvalError> {
        let mut items = self.to_vec()?;
        let Some(of) = kind(self) else {
            items.extend(other.to_vec()?);
            return Ok(items);
        };
        for item in other.iter() {
            let item = item?;
            let same = |known: &Value<'_>| match of.kind {
                ListKind::Map => same_key(of, known, &item),
                _ => known.equals(&item),
            };
            match items.iter().position(same) {
                Some(at) => items[at] = item,
                None => items.push(item),
            }
        }
        Ok(items)
    }

    pub(in crate::cel) fn contains(&self, wanted: &Value<'_>) -> bool {
        self.iter().flatten().any(|item| item.equals(wanted))
    }
}
