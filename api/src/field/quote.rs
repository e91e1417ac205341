//! Text as Go prints it: `%q` for strings and `encoding/json` for the rest.

use std::fmt::Write as _;

use serde_json::Value;

/// `text` in double quotes, escaped as Go's `strconv.Quote` does.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            c if !c.is_ascii() && is_print(c) => out.push(c),
            c => escape(&mut out, u32::from(c)),
        }
    }
    out.push('"');
    out
}

fn escape(out: &mut String, code: u32) {
    let written = match code {
        0..=0x1f | 0x7f => write!(out, "\\x{code:02x}"),
        0x80..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
    written.expect("writing to a string cannot fail");
}

/// Whether Go's `unicode.IsPrint` holds, for characters beyond ASCII. Rust's debug escape knows the same
/// classes; a character in front keeps it from also escaping combining marks, which Go prints.
fn is_print(c: char) -> bool {
    let mut buffer = [b'a'; 5];
    let length = c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..=length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

/// `value` as Go's `json.Marshal` writes it: compact, with `<`, `>`, `&` and the line separators escaped.
pub fn go_json(value: &Value) -> String {
    let plain = value.to_string();
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return plain;
    }
    let mut out = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        // These occur only inside strings, where an escape means the same.
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quote("a\"b\\c\n\t\x07\x1b\x7f"), r#""a\"b\\c\n\t\a\x1b\x7f""#);
        assert_eq!(quote("gr\u{fc}n e\u{301} \u{4e16}"), "\"gr\u{fc}n e\u{301} \u{4e16}\"");
        assert_eq!(
            quote("\u{a0}\u{200b}\u{feff}\u{e000}\u{10ffff}"),
            r#""\u00a0\u200b\ufeff\ue000\U0010ffff""#
        );
    }

    #[test]
    fn json_escapes_what_go_escapes() {
        assert_eq!(go_json(&serde_json::json!({"a": "<b>&"})), r#"{"a":"\u003cb\u003e\u0026"}"#);
    }
}
