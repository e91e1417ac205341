//! A JSON tokenizer that accepts and refuses exactly what Go's does, with Go's words.

use std::borrow::Cow;

use super::error::SyntaxError;

/// Deeper documents are refused: far above any real object, and low enough that neither decoding nor dropping the
/// tree can exhaust a thread's stack.
pub const MAX_DEPTH: usize = 512;

/// A cursor over a JSON document.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

type Scan<T> = Result<T, SyntaxError>;

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// Skips white space and tells how the next value begins, without consuming it.
    pub(super) fn peek(&mut self) -> Scan<u8> {
        match self.next_token()? {
            byte @ (b'{' | b'[' | b'"' | b'-' | b't' | b'f' | b'n' | b'0'..=b'9') => Ok(byte),
            byte => Err(SyntaxError::character(byte, "looking for beginning of value")),
        }
    }

    /// The document must end here.
    pub(super) fn end(&mut self) -> Scan<()> {
        self.skip_space();
        match self.bytes.get(self.at) {
            None => Ok(()),
            Some(byte) => Err(SyntaxError::character(*byte, "after top-level value")),
        }
    }

    /// Consumes `{` or `[`. To be paired with [`Scanner::leave`].
    pub(super) fn enter(&mut self) -> Scan<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(SyntaxError::too_deep()) } else { Ok(()) }
    }

    fn leave(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    /// Inside an object: consumes the next key and its colon; None at the closing brace, which is consumed.
    /// `first` tells whether no member has been read yet.
    pub(super) fn key(&mut self, first: bool) -> Scan<Option<Cow<'a, str>>> {
        let mut byte = self.next_token()?;
        if byte == b'}' {
            self.leave();
            return Ok(None);
        }
        if !first {
            if byte != b',' {
                return Err(SyntaxError::character(byte, "after object key:value pair"));
            }
            self.at += 1;
            byte = self.next_token()?;
        }
        if byte != b'"' {
            return Err(SyntaxError::character(byte, "looking for beginning of object key string"));
        }
        let key = self.string()?;
        match self.next_token()? {
            b':' => self.at += 1,
            byte => return Err(SyntaxError::character(byte, "after object key")),
        }
        Ok(Some(key))
    }

    /// Inside an array: whether there is another element; false at the closing bracket, which is consumed.
    pub(super) fn element(&mut self, first: bool) -> Scan<bool> {
        match self.next_token()? {
            b']' => {
                self.leave();
                Ok(false)
            }
            _ if first => Ok(true),
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte => Err(SyntaxError::character(byte, "after array element")),
        }
    }

    /// Consumes a value of any form.
    pub(super) fn skip(&mut self) -> Scan<()> {
        match self.peek()? {
            b'{' => {
                self.enter()?;
                let mut first = true;
                while self.key(first)?.is_some() {
                    first = false;
                    self.skip()?;
                }
                Ok(())
            }
            b'[' => {
                self.enter()?;
                let mut first = true;
                while self.element(first)? {
                    first = false;
                    self.skip()?;
                }
                Ok(())
            }
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => self.literal().map(drop),
        }
    }

    /// Consumes a value of any form and returns its text.
    pub(super) fn raw(&mut self) -> Scan<&'a [u8]> {
        self.peek()?;
        let start = self.at;
        self.skip()?;
        Ok(&self.bytes[start..self.at])
    }

    /// Consumes `true` (Some(true)), `false` (Some(false)) or `null` (None).
    pub(super) fn literal(&mut self) -> Scan<Option<bool>> {
        let (word, value) = match self.bytes.get(self.at) {
            Some(b't') => ("true", Some(true)),
            Some(b'f') => ("false", Some(false)),
            _ => ("null", None),
        };
        for expected in word.bytes().skip(1) {
            self.at += 1;
            match self.bytes.get(self.at) {
                None => return Err(SyntaxError::eof()),
                Some(byte) if *byte == expected => {}
                Some(byte) => {
                    let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                    return Err(SyntaxError::character(*byte, &context));
                }
            }
        }
        self.at += 1;
        Ok(value)
    }

    /// Consumes a number and returns its text.
    pub(super) fn number(&mut self) -> Scan<&'a str> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
            if !matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
                return Err(self.unexpected("in numeric literal"));
            }
        }
        if self.bytes[self.at] == b'0' {
            self.at += 1
        } else {
            self.digits()
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.require_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.require_digits("in exponent of numeric literal")?;
        }
        Ok(str::from_utf8(&self.bytes[start..self.at]).expect("digits, signs and letters are ASCII"))
    }

    /// Consumes a string. What is no valid UTF-8 or UTF-16 becomes U+FFFD, as in Go.
    pub(super) fn string(&mut self) -> Scan<Cow<'a, str>> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.bytes.get(end) {
                None => return Err(SyntaxError::eof()),
                Some(b'"') => {
                    self.at = end + 1;
                    return Ok(String::from_utf8_lossy(&self.bytes[start..end]));
                }
                Some(b'\\') => break,
                Some(byte) if *byte < 0x20 => return Err(SyntaxError::character(*byte, "in string literal")),
                Some(_) => end += 1,
            }
        }
        self.at = start;
        self.string_with_escapes().map(Cow::Owned)
    }

    fn string_with_escapes(&mut self) -> Scan<String> {
        let mut text = String::new();
        loop {
            let start = self.at;
            while self.bytes.get(self.at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
                self.at += 1;
            }
            text.push_str(&String::from_utf8_lossy(&self.bytes[start..self.at]));
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Scan<char> {
        let escaped = match self.bytes.get(self.at) {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Scan<char> {
        let unit = self.hex4()?;
        if !(0xd800..0xe000).contains(&unit) {
            return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let rest = self.at;
        if self.bytes[rest..].starts_with(b"\\u") {
            self.at += 2;
            let low = self.hex4()?;
            if unit < 0xdc00 && (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // Not the second half of a pair: a character of its own.
            self.at = rest;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Scan<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.at).and_then(|byte| char::from(*byte).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.unexpected("in \\u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(unit)
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn require_digits(&mut self, context: &str) -> Scan<()> {
        if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.unexpected(context));
        }
        self.digits();
        Ok(())
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn next_token(&mut self) -> Scan<u8> {
        self.skip_space();
        self.bytes.get(self.at).copied().ok_or_else(SyntaxError::eof)
    }

    fn unexpected(&self, context: &str) -> SyntaxError {
        match self.bytes.get(self.at) {
            None => SyntaxError::eof(),
            Some(byte) => SyntaxError::character(*byte, context),
        }
    }
}

/// Whether the bytes are one JSON value and nothing else.
pub(super) fn check(bytes: &[u8]) -> Scan<()> {
    let mut scan = Scanner::new(bytes);
    scan.skip()?;
    scan.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        check(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn errors_are_worded_as_go_words_them() {
        for (text, message) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("tru3", "invalid character '3' in literal true (expecting 'e')"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.", "unexpected end of JSON input"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
        ] {
            assert_eq!(refused(text), message, "{text}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        assert!(
            check("[".repeat(MAX_DEPTH).as_bytes())
                .expect_err("unclosed")
                .to_string()
                .contains("end of JSON")
        );
        assert_eq!(refused(&"[".repeat(MAX_DEPTH + 1)), "exceeded max depth");
    }

    #[test]
    fn halves_of_pairs_become_replacement_characters() {
        for (text, value) in [
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ude00\u0041""#, "\u{fffd}A"),
            (r#""a\nb""#, "a\nb"),
        ] {
            let mut scan = Scanner::new(text.as_bytes());
            assert_eq!(scan.string().expect(text), value);
            scan.end().expect("consumed");
        }
    }
}
