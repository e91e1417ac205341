//! From text to the syntax tree, by the `cel` crate's parser.

mod lower;
mod macros;

use std::sync::LazyLock;

use cel::Env;

pub(super) use self::macros::MAP_INSERT;

use super::ast::Expr;
use super::error::{CompileError, Issue, render};

/// Upstream takes 100,000 code points; an expression of this length costs more to evaluate than any may.
const MAX_CHARACTERS: usize = 32 * 1024;
/// What is deeper is refused: evaluating goes as deep as the tree.
const MAX_DEPTH: usize = 250;
/// The parser recurses as deep as the text makes it, so it runs on a stack that is deep enough for any text that is
/// short enough. Memory is used only as far as it gets.
const STACK_BYTES: usize = 256 << 20;

static ENV: LazyLock<Env> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(true);
    macros::add(&mut env);
    env
});

/// A syntax tree and where its nodes stand in the text.
#[derive(Debug)]
pub(super) struct Parsed {
    pub root: Expr,
    /// By id, in characters.
    pub offsets: Vec<usize>,
}

/// Parses an expression and expands its macros.
pub(super) fn parse(source: &str) -> Result<Parsed, CompileError> {
    let length = source.chars().count();
    if length > MAX_CHARACTERS {
        let why = format!("expression code point size exceeds limit: size: {length}, limit {MAX_CHARACTERS}");
        return Err(render(source, vec![Issue { at: 0, message: why }]));
    }
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new()
            .name("cel-parser".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || parse_here(source));
        match parser.map(|thread| thread.join()) {
            Ok(Ok(parsed)) => parsed,
            _ => {
                Err(render(source, vec![Issue { at: 0, message: "the expression cannot be parsed".into() }]))
            }
        }
    })
}

fn parse_here(source: &str) -> Result<Parsed, CompileError> {
    let parsed = ENV.parser().enable_ident_escape_syntax(true).parse_with_source_info(source);
    let (root, info) = parsed.map_err(|errors| {
        let issues = errors.errors.into_iter().map(|error| {
            let (line, column) = error.pos;
            Issue { at: offset(source, line, column), message: error.msg }
        });
        render(source, issues.collect())
    })?;
    lower::lower(root, &info, MAX_DEPTH).map_err(|at| {
        render(source, vec![Issue { at, message: format!("max recursion depth of {MAX_DEPTH} exceeded") }])
    })
}

/// The offset of a line and column that both count from one.
fn offset(source: &str, line: isize, column: isize) -> usize {
    let line = usize::try_from(line - 1).unwrap_or_default();
    let before: usize = source.split('\n').take(line).map(|text| text.chars().count() + 1).sum();
    before + usize::try_from(column - 1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_errors_point_at_their_place() {
        let error = parse("a +\n  )").unwrap_err().0;
        assert!(error.starts_with("ERROR: <input>:2:3: Syntax error: "), "{error}");
        assert!(error.contains("\n |   )\n | ..^"), "{error}");
    }

    #[test]
    fn hostile_texts_are_refused_not_followed() {
        assert!(parse(&"(".repeat(1_000)).is_err());
        assert!(parse(&"1+".repeat(1_000)).is_err());
        assert!(parse(&format!("{}1", "1+".repeat(1_000))).is_err());
        assert!(parse(&format!("a{}", ".b".repeat(1_000))).is_err());
        assert!(parse(&"x".repeat(40_000)).is_err());
        assert!(parse(&format!("true{}", " && true".repeat(300))).is_ok());
    }
}
