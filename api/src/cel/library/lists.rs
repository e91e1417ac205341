//! Lists.

use std::cmp::Ordering;

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{List, Value};

/// The longest list that `lists.range` makes.
const MAX_RANGE: i64 = 1_000_000;

pub(super) const FUNCTIONS: &[Definition] = &[
    (
        "isSorted",
        is_sorted,
        &[
            ("list_int_is_sorted_bool", ". list(int) -> bool"),
            ("list_uint_is_sorted_bool", ". list(uint) -> bool"),
            ("list_double_is_sorted_bool", ". list(double) -> bool"),
            ("list_bool_is_sorted_bool", ". list(bool) -> bool"),
            ("list_duration_is_sorted_bool", ". list(duration) -> bool"),
            ("list_timestamp_is_sorted_bool", ". list(timestamp) -> bool"),
            ("list_string_is_sorted_bool", ". list(string) -> bool"),
            ("list_bytes_is_sorted_bool", ". list(bytes) -> bool"),
        ],
    ),
    (
        "sum",
        sum,
        &[
            ("list_int_sum_int", ". list(int) -> int"),
            ("list_uint_sum_uint", ". list(uint) -> uint"),
            ("list_double_sum_double", ". list(double) -> double"),
            ("list_duration_sum_duration", ". list(duration) -> duration"),
        ],
    ),
    (
        "max",
        max,
        &[
            ("list_int_max_int", ". list(int) -> int"),
            ("list_uint_max_uint", ". list(uint) -> uint"),
            ("list_double_max_double", ". list(double) -> double"),
            ("list_bool_max_bool", ". list(bool) -> bool"),
            ("list_duration_max_duration", ". list(duration) -> duration"),
            ("list_timestamp_max_timestamp", ". list(timestamp) -> timestamp"),
            ("list_string_max_string", ". list(string) -> string"),
            ("list_bytes_max_bytes", ". list(bytes) -> bytes"),
        ],
    ),
    (
        "min",
        min,
        &[
            ("list_int_min_int", ". list(int) -> int"),
            ("list_uint_min_uint", ". list(uint) -> uint"),
            ("list_double_min_double", ". list(double) -> double"),
            ("list_bool_min_bool", ". list(bool) -> bool"),
            ("list_duration_min_duration", ". list(duration) -> duration"),
            ("list_timestamp_min_timestamp", ". list(timestamp) -> timestamp"),
            ("list_string_min_string", ". list(string) -> string"),
            ("list_bytes_min_bytes", ". list(bytes) -> bytes"),
        ],
    ),
    (
        "indexOf",
        index_of,
        &[
            ("list_a_index_of_int", ". list(A), A -> int"),
            ("string_index_of_string", ". string, string -> int"),
            ("string_index_of_string_int", ". string, string, int -> int"),
        ],
    ),
    (
        "lastIndexOf",
        last_index_of,
        &[
            ("list_a_last_index_of_int", ". list(A), A -> int"),
            ("string_last_index_of_string", ". string, string -> int"),
            ("string_last_index_of_string_int", ". string, string, int -> int"),
        ],
    ),
    ("slice", slice, &[("list_slice", ". list(T), int, int -> list(T)")]),
    (
        "flatten",
        flatten,
        &[
            ("list_flatten", ". list(list(T)) -> list(T)"),
            ("list_flatten_int", ". list(dyn), int -> list(dyn)"),
        ],
    ),
    (
        "sort",
        sort,
        &[
            ("list_int_sort", ". list(int) -> list(int)"),
            ("list_uint_sort", ". list(uint) -> list(uint)"),
            ("list_double_sort", ". list(double) -> list(double)"),
            ("list_bool_sort", ". list(bool) -> list(bool)"),
            ("list_duration_sort", ". list(duration) -> list(duration)"),
            ("list_timestamp_sort", ". list(timestamp) -> list(timestamp)"),
            ("list_string_sort", ". list(string) -> list(string)"),
            ("list_bytes_sort", ". list(bytes) -> list(bytes)"),
        ],
    ),
    (
        "@sortByAssociatedKeys",
        sort_by_keys,
        &[
            ("list_int_sortByAssociatedKeys", ". list(T), list(int) -> list(T)"),
            ("list_uint_sortByAssociatedKeys", ". list(T), list(uint) -> list(T)"),
            ("list_double_sortByAssociatedKeys", ". list(T), list(double) -> list(T)"),
            ("list_bool_sortByAssociatedKeys", ". list(T), list(bool) -> list(T)"),
            ("list_duration_sortByAssociatedKeys", ". list(T), list(duration) -> list(T)"),
            ("list_timestamp_sortByAssociatedKeys", ". list(T), list(timestamp) -> list(T)"),
            ("list_string_sortByAssociatedKeys", ". list(T), list(string) -> list(T)"),
            ("list_bytes_sortByAssociatedKeys", ". list(T), list(bytes) -> list(T)"),
        ],
    ),
    ("lists.range", range, &[("lists_range", "int -> list(int)")]),
    ("reverse", reverse, &[("list_reverse", ". list(T) -> list(T)")]),
    ("distinct", distinct, &[("list_distinct", ". list(T) -> list(T)")]),
    ("first", first, &[("list_first", ". list(V) -> opt(V)")]),
    ("last", last, &[("list_last", ". list(V) -> opt(V)")]),
];

fn compare(a: &Value<'_>, b: &Value<'_>) -> std::result::Result<Ordering, EvalError> {
    a.compare(b).ok_or(EvalError::NoSuchOverload)
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let items = list.to_vec()?;
    for pair in items.windows(2) {
        if compare(&pair[0], &pair[1])?.is_gt() {
            return Ok(false.into());
        }
    }
    Ok(true.into())
}

fn sum<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let add = crate::cel::functions::lookup("_+_").ok_or(EvalError::NoSuchOverload)?.call;
    let mut total: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        total = Some(match total {
            None => item,
            Some(total) => add(&[total, item])?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        best = match best {
            Some(best) if compare(&item, &best)? != wanted => Some(best),
            _ => Some(item),
        };
    }
    best.ok_or_else(|| EvalError::failed(format!("{name} called on empty list")))
}

fn max<'a>(args: &[Value<'a>]) -> Result<'a> {
    extreme(args, "max", Ordering::Greater)
}

fn min<'a>(args: &[Value<'a>]) -> Result<'a> {
    extreme(args, "min", Ordering::Less)
}

fn position<'a>(found: Option<usize>) -> Result<'a> {
    Ok(Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)))
}

/// The character that a byte of a text belongs to.
fn character(text: &str, byte: usize) -> usize {
    text[..byte].chars().count()
}

fn out_of_range(at: i64) -> EvalError {
    EvalError::failed(format!("index out of range: {at}"))
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::List(list), wanted] => {
            position(list.iter().position(|item| item.is_ok_and(|item| item.equals(wanted))))
        }
        [Value::String(text), Value::String(part)] => {
            position(text.find(&**part).map(|byte| character(text, byte)))
        }
        [Value::String(text), Value::String(part), Value::Int(from)] => {
            let skip = usize::try_from(*from).ok().filter(|skip| *skip <= text.chars().count());
            let skip = skip.ok_or_else(|| out_of_range(*from))?;
            let byte = text.char_indices().nth(skip).map_or(text.len(), |(byte, _)| byte);
            position(text[byte..].find(&**part).map(|found| character(text, byte + found)))
        }
        _ => no_overload(),
    }
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::List(list), wanted] => {
            let items = list.to_vec()?;
            position(items.iter().rposition(|item| item.equals(wanted)))
        }
        [Value::String(text), Value::String(part)] => {
            position(text.rfind(&**part).map(|byte| character(text, byte)))
        }
        [Value::String(text), Value::String(part), Value::Int(from)] => {
            let last = usize::try_from(*from).ok().filter(|last| *last <= text.chars().count());
            let last = last.ok_or_else(|| out_of_range(*from))?;
            let starts = text.char_indices().map(|(byte, _)| byte).chain([text.len()]).take(last + 1);
            let starts: Vec<usize> = starts.collect();
            position(starts.iter().rposition(|byte| text[*byte..].starts_with(&**part)))
        }
        _ => no_overload(),
    }
}

fn slice<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return no_overload() };
    let refuse = |why: String| Err(EvalError::failed(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return refuse("negative indexes not supported".into());
    };
    if from > to {
        return refuse("start index must be less than or equal to end index".into());
    }
    if to > list.len() {
        return refuse(format!("list is length {}", list.len()));
    }
    Ok((from..to).filter_map(|at| list.get(at)).collect::<std::result::Result<Vec<_>, _>>()?.into())
}

fn flatten<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return no_overload(),
    };
    if depth < 0 {
        return Err(EvalError::failed("level must be non-negative"));
    }
    let mut items = Vec::new();
    flatten_into(list, depth, &mut items)?;
    Ok(items.into())
}

fn flatten_into<'a>(
    list: &List<'a>,
    depth: i64,
    items: &mut Vec<Value<'a>>,
) -> std::result::Result<(), EvalError> {
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, items)?,
            other => items.push(other),
        }
    }
    Ok(())
}

fn sort<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    sorted(list, list)
}

fn sort_by_keys<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list), Value::List(keys)] = args else { return no_overload() };
    sorted(list, keys)
}

fn sorted<'a>(list: &List<'a>, keys: &List<'a>) -> Result<'a> {
    let (items, keys) = (list.to_vec()?, keys.to_vec()?);
    if items.len() != keys.len() {
        return Err(EvalError::failed(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            items.len(),
            keys.len()
        )));
    }
    if keys.iter().any(|key| key.compare(key).is_none()) {
        return Err(EvalError::failed("list elements must be comparable"));
    }
    if keys.windows(2).any(|pair| pair[0].type_name() != pair[1].type_name()) {
        return Err(EvalError::failed("list elements must have the same type"));
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|a, b| keys[*a].compare(&keys[*b]).unwrap_or(Ordering::Equal));
    Ok(order.into_iter().map(|at| items[at].clone()).collect::<Vec<_>>().into())
}

fn range<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::Int(end)] = args else { return no_overload() };
    if *end > MAX_RANGE {
        return Err(EvalError::CostLimit);
    }
    Ok((0..*end).map(Value::Int).collect::<Vec<_>>().into())
}

fn reverse<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut items = list.to_vec()?;
    items.reverse();
    Ok(items.into())
}

fn distinct<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut kept: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        let item = item?;
        if !kept.iter().any(|known| known.equals(&item)) {
            kept.push(item);
        }
    }
    Ok(kept.into())
}

fn first<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    Ok(list.get(0).transpose()?.map_or(Value::NONE, Value::some))
}

fn last<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let at = list.len().checked_sub(1);
    Ok(at.and_then(|at| list.get(at)).transpose()?.map_or(Value::NONE, Value::some))
}
