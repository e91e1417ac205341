//! Signatures of functions, read from a short notation: `string, int -> bool` for `f(string, int)`, and with a dot
//! in front (`. string, int -> bool`) for `string.f(int)`. Capital letters are any type.

use std::sync::Arc;

use super::types::Type;

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Overload {
    pub id: &'static str,
    pub member: bool,
    /// A receiver comes first.
    pub args: Vec<Type>,
    pub result: Type,
    /// How many of [`Type::Var`] there are.
    pub vars: u32,
}

/// Reads a signature of the tables in [`super::library`].
pub(super) fn parse(id: &'static str, notation: &'static str) -> Overload {
    let (args, result) = notation.split_once("->").unwrap_or((notation, "dyn"));
    let (member, args) = match args.trim().strip_prefix('.') {
        Some(args) => (true, args),
        None => (false, args.trim()),
    };
    let mut letters = Vec::new();
    let args = split(args).into_iter().map(|arg| named(arg, &mut letters)).collect();
    let result = named(result.trim(), &mut letters);
    Overload { id, member, args, result, vars: u32::try_from(letters.len()).unwrap_or_default() }
}

/// Splits at the commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// Letters become variables in the order they come.
fn named(text: &str, letters: &mut Vec<u8>) -> Type {
    if let Some((name, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut inner = split(inner).into_iter().map(|text| named(text, letters));
        let first = inner.next().unwrap_or(Type::Dyn);
        return match name {
            "list" => Type::list(first),
            "map" => Type::map(first, inner.next().unwrap_or(Type::Dyn)),
            "opt" => Type::optional(first),
            _ => Type::Type(Some(Arc::new(first))),
        };
    }
    match text {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "quantity" => Type::Opaque("kubernetes.Quantity"),
        "url" => Type::Opaque("kubernetes.URL"),
        "ip" => Type::Opaque("net.IP"),
        "cidr" => Type::Opaque("net.CIDR"),
        "semver" => Type::Opaque("kubernetes.Semver"),
        "format" => Type::Opaque("kubernetes.NamedFormat"),
        "authorizer" => Type::Opaque("kubernetes.authorization.Authorizer"),
        "pathcheck" => Type::Opaque("kubernetes.authorization.PathCheck"),
        "groupcheck" => Type::Opaque("kubernetes.authorization.GroupCheck"),
        "resourcecheck" => Type::Opaque("kubernetes.authorization.ResourceCheck"),
        "decision" => Type::Opaque("kubernetes.authorization.Decision"),
        _ => match text.as_bytes() {
            [letter @ b'A'..=b'Z'] => {
                let at = letters.iter().position(|known| known == letter).unwrap_or_else(|| {
                    letters.push(*letter);
                    letters.len() - 1
                });
                Type::Var(u32::try_from(at).unwrap_or_default())
            }
            _ => Type::Dyn,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read() {
        let of = parse("x", ". map(A, list(B)), int -> opt(B)");
        assert!(of.member);
        assert_eq!(of.args, [Type::map(Type::Var(0), Type::list(Type::Var(1))), Type::Int]);
        assert_eq!(of.result, Type::optional(Type::Var(1)));
        assert!(parse("x", "-> bool").args.is_empty());
    }
}
