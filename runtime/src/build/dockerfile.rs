//! Reading Dockerfiles: text to stages of instructions. Nothing is expanded and nothing is looked up here.

mod expand;
mod instruction;
mod lines;
mod words;

pub use expand::expand;
pub use instruction::{Argument, Command, Copy, Flags, Healthcheck, Heredoc, Instruction, Kind};

use lines::Line;

/// Longest Dockerfile, in bytes.
pub const MAX_SIZE: usize = 1 << 20;
/// Instructions of all stages, those of heredocs not counted.
const MAX_INSTRUCTIONS: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Dockerfile:{line}: {reason}")]
pub struct Error {
    pub line: usize,
    pub reason: String,
}

impl Error {
    fn new(line: usize, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

type Result<T> = std::result::Result<T, Error>;

/// One `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    pub line: usize,
    /// An image, an earlier stage, or `scratch`; not expanded.
    pub base: String,
    pub platform: Option<String>,
    /// Lower case.
    pub name: Option<String>,
    pub instructions: Vec<Instruction>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    /// The character that joins lines and quotes characters.
    pub escape: char,
    /// `ARG`s before the first `FROM`.
    pub arguments: Vec<Argument>,
    pub stages: Vec<Stage>,
}

/// Reads a whole Dockerfile.
pub fn parse(text: &str) -> Result<Dockerfile> {
    if text.len() > MAX_SIZE {
        return Err(Error::new(1, format!("the file is longer than {MAX_SIZE} bytes")));
    }
    let (escape, lines) = lines::split(text)?;
    if lines.len() > MAX_INSTRUCTIONS {
        return Err(Error::new(1, format!("the file has more than {MAX_INSTRUCTIONS} instructions")));
    }
    let mut file = Dockerfile { escape, arguments: Vec::new(), stages: Vec::new() };
    for line in lines {
        if line.keyword == "FROM" {
            file.stages.push(from(&line)?);
            continue;
        }
        let instruction = instruction::parse(&line, escape)?;
        match (file.stages.last_mut(), instruction.kind) {
            (Some(stage), kind) => stage.instructions.push(Instruction { kind, ..instruction }),
            (None, Kind::Arg(arguments)) => file.arguments.extend(arguments),
            (None, _) => {
                return Err(Error::new(line.number, "no build stage in current context: begin with FROM"));
            }
        }
    }
    if file.stages.is_empty() {
        return Err(Error::new(1, "file with no instructions"));
    }
    Ok(file)
}

/// Reads one instruction that a base image left for its children.
pub fn parse_trigger(text: &str) -> Result<Instruction> {
    let (escape, mut lines) = lines::split(text)?;
    match (lines.pop(), lines.is_empty()) {
        (Some(line), true) if !matches!(&*line.keyword, "FROM" | "ONBUILD" | "MAINTAINER") => {
            instruction::parse(&line, escape)
        }
        _ => Err(Error::new(1, format!("ONBUILD {text:?} is not one instruction"))),
    }
}

fn from(line: &Line) -> Result<Stage> {
    let (flags, rest) = words::flags(&line.rest);
    let flags = Flags::known(flags, &["platform"], line.number)?;
    let parts: Vec<&str> = rest.split_whitespace().collect();
    let (base, name) = match *parts {
        [base] => (base, None),
        [base, by, name] if by.eq_ignore_ascii_case("as") => (base, Some(name.to_ascii_lowercase())),
        _ => return Err(Error::new(line.number, "FROM requires either one or three arguments")),
    };
    let valid = |name: &String| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
    };
    if let Some(bad) = name.as_ref().filter(|name| !valid(name)) {
        return Err(Error::new(line.number, format!("invalid name for build stage: {bad:?}")));
    }
    Ok(Stage {
        line: line.number,
        base: base.to_owned(),
        platform: flags.last("platform"),
        name,
        instructions: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
