//! What changed where nothing may, as messages show it: the old and new JSON, line by line, as a unified diff.

use std::fmt::Write as _;

use serde_json::Value;

const CONTEXT: usize = 3;

/// The lines from the first to the last that differ, with a few around them.
pub fn diff(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let start = before.saturating_sub(CONTEXT);
    let tail = after.min(CONTEXT);
    let (old_end, new_end) = (old.len() - after + tail, new.len() - after + tail);
    let mut out = String::new();
    let range = |end: usize| match end - start {
        1 => format!("{}", start + 1),
        length => format!("{},{length}", if length == 0 { start } else { start + 1 }),
    };
    let mut line = |sign: &str, text: &str| {
        writeln!(out, "{sign}{text}").expect("writing to a string cannot fail");
    };
    line("@@ -", &format!("{} +{} @@", range(old_end), range(new_end)));
    old[start..before].iter().for_each(|text| line(" ", text));
    old[before..old.len() - after].iter().for_each(|text| line("-", text));
    new[before..new.len() - after].iter().for_each(|text| line("+", text));
    old[old.len() - after..old_end].iter().for_each(|text| line(" ", text));
    out
}

fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, format);
    serde::Serialize::serialize(value, &mut serializer).expect("a JSON value has string keys");
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::diff;

    #[test]
    fn changed_lines_are_shown_with_those_around_them() {
        let shown = diff(&json!({"a": 1, "b": 2, "c": 3}), &json!({"a": 1, "b": 5, "c": 3}));
        assert_eq!(shown, "@@ -1,5 +1,5 @@\n {\n  \"a\": 1,\n- \"b\": 2,\n+ \"b\": 5,\n  \"c\": 3\n }\n");
    }
}
