//! What can be wrong with an expression, before and while it is evaluated.

use std::fmt;

use super::decisions::Check;

/// The faults of an expression, as upstream's compiler lists them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);

/// One fault and the character it is about.
#[derive(Debug)]
pub(super) struct Issue {
    /// Offset in characters.
    pub at: usize,
    pub message: String,
}

/// The longest line that is shown below a message.
const MAX_SNIPPET: usize = 16_384;

/// All faults with the lines they are in.
pub(super) fn render(source: &str, mut issues: Vec<Issue>) -> CompileError {
    issues.sort_by_key(|issue| issue.at);
    let shown: Vec<String> = issues.iter().map(|issue| show(source, issue)).collect();
    CompileError(shown.join("\n"))
}

fn show(source: &str, issue: &Issue) -> String {
    let before: Vec<char> = source.chars().take(issue.at).collect();
    let line = before.iter().filter(|c| **c == '\n').count();
    let column = before.iter().rev().take_while(|c| **c != '\n').count();
    let text = source.split('\n').nth(line).unwrap_or_default().replace('\t', " ");
    let mut out = format!("ERROR: <input>:{}:{}: {}", line + 1, column + 1, issue.message);
    if text.len() > MAX_SNIPPET {
        return out;
    }
    let wide = |c: char| c.len_utf8() > 1;
    out.push_str("\n | ");
    out.push_str(&text);
    out.push_str("\n | ");
    out.extend(text.chars().take(column).map(|c| if wide(c) { '\u{ff0e}' } else { '.' }));
    out.push(if text.chars().nth(column).is_some_and(wide) { '\u{ff3e}' } else { '^' });
    out
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq)]
pub enum EvalError {
    /// A fault in the words of upstream's interpreter.
    Failed(String),
    NoSuchOverload,
    /// It cost more than it may.
    CostLimit,
    /// It depends on an authorizer's answer that was not given; see [`super::Decisions`].
    Undecided(Box<Check>),
}

impl EvalError {
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(super) fn no_such_key(key: impl fmt::Display) -> Self {
        Self::Failed(format!("no such key: {key}"))
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::NoSuchOverload => f.write_str("no such overload"),
            Self::CostLimit => f.write_str("operation cancelled: actual cost limit exceeded"),
            Self::Undecided(check) => write!(f, "authorization of {:?} is not decided", check.verb),
        }
    }
}

impl std::error::Error for EvalError {}
