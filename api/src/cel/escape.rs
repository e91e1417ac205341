//! Names of fields as expressions write them.

/// Words of the language that no identifier can be.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The identifier for a property: `.` becomes `__dot__` and so on; none for names with other characters.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '_' if rest.starts_with('_') => {
                rest = &rest[1..];
                out.push_str("__underscores__");
            }
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        for (name, wanted) in [
            ("a", Some("a")),
            ("namespace", Some("__namespace__")),
            ("app.k8s.io/x-y", Some("app__dot__k8s__dot__io__slash__x__dash__y")),
            ("a__b", Some("a__underscores__b")),
            ("_a", Some("_a")),
            ("1a", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(escape(name).as_deref(), wanted, "{name}");
        }
    }
}
