//! Text to logical lines: directives, comments, joined lines, heredocs.

use super::instruction::Heredoc;
use super::{Error, Result, words};

/// Heredocs of one instruction.
const MAX_HEREDOCS: usize = 64;

/// One instruction as written, its lines joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Of its first line, from 1.
    pub number: usize,
    /// Upper case.
    pub keyword: String,
    pub rest: String,
    pub heredocs: Vec<Heredoc>,
}

/// The escape character, and the instructions.
pub fn split(text: &str) -> Result<(char, Vec<Line>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = directives(text)?;
    let mut lines = text.lines().enumerate();
    let mut found = Vec::new();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with('#') {
            continue;
        }
        let mut joined = String::new();
        let mut more = append(&mut joined, first, escape);
        while more {
            let Some((_, next)) = lines.next() else { break };
            // Comments and empty lines do not end what they stand in.
            if next.trim_start().starts_with('#') || next.trim().is_empty() {
                continue;
            }
            more = append(&mut joined, next, escape);
        }
        let mut line = keyword(index + 1, joined.trim())?;
        if matches!(&*line.keyword, "RUN" | "COPY" | "ADD") {
            for (name, strip, quoted) in words::heredocs(&line.rest) {
                if line.heredocs.len() == MAX_HEREDOCS {
                    return Err(Error::new(line.number, "too many heredocs"));
                }
                let content = heredoc(&mut lines, &name, strip)
                    .ok_or_else(|| Error::new(line.number, format!("unterminated heredoc {name}")))?;
                line.heredocs.push(Heredoc { name, expand: !quoted, content });
            }
        }
        found.push(line);
    }
    Ok((escape, found))
}

/// Appends a line without its mark of continuation; whether there was one.
fn append(joined: &mut String, line: &str, escape: char) -> bool {
    let trimmed = line.trim_end();
    match trimmed.strip_suffix(escape) {
        Some(start) => {
            joined.push_str(start);
            true
        }
        None => {
            joined.push_str(trimmed);
            false
        }
    }
}

fn keyword(number: usize, text: &str) -> Result<Line> {
    let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if keyword.is_empty() {
        return Err(Error::new(number, "empty instruction"));
    }
    Ok(Line {
        number,
        keyword: keyword.to_ascii_uppercase(),
        rest: rest.trim().to_owned(),
        heredocs: Vec::new(),
    })
}

/// The lines up to the name, which stands alone; `strip`: without leading tabs.
fn heredoc<'a>(
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    name: &str,
    strip: bool,
) -> Option<String> {
    let mut content = String::new();
    for (_, line) in lines {
        let line = if strip { line.trim_start_matches('\t') } else { line };
        if line == name {
            return Some(content);
        }
        content.push_str(line);
        content.push('\n');
    }
    None
}

/// `# escape=` at the very top.
fn directives(text: &str) -> Result<char> {
    for (index, line) in text.lines().enumerate() {
        let Some((key, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            break;
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match (key.as_str(), value) {
            ("escape", "\\" | "`") => return Ok(if value == "`" { '`' } else { '\\' }),
            ("escape", _) => {
                return Err(Error::new(
                    index + 1,
                    format!("invalid escape token {value:?}: it must be ` or \\"),
                ));
            }
            ("syntax" | "check", _) => {}
            _ => break,
        }
    }
    Ok('\\')
}
