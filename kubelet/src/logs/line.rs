//! One line of a CRI log file: `2026-11-22T14:00:00.123456789Z stdout F text`.

use jiff::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// As written, for `timestamps=true`.
    pub time: &'a str,
    pub stream: Stream,
    /// The text goes on in the next line (it was longer than one).
    pub partial: bool,
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads a line without its newline; `None` for what is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let tags = parts.next()?;
        let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
        Some(Self { time, stream, partial, text: parts.next().unwrap_or_default() })
    }

    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_four_parts_and_text_keeps_its_blanks() {
        let line = Line::parse(b"2026-01-02T03:04:05.6Z stderr P a  b ").expect("valid");
        assert_eq!((line.stream, line.partial, line.text), (Stream::Stderr, true, &b"a  b "[..]));
        assert_eq!(line.timestamp().expect("valid").as_second(), 1_767_323_045);
        assert_eq!(Line::parse(b"2026-01-02T03:04:05Z stdout F").expect("empty").text, b"");
        assert_eq!(Line::parse(b"junk"), None);
        assert_eq!(Line::parse(b"t elsewhere F x"), None);
    }
}
