//! One instruction and its arguments.

use super::lines::Line;
use super::{Error, Result, words};

/// A command as a list, or as text for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Exec(Vec<String>),
    Shell(String),
}

/// Text inside the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    /// Variables in it are replaced, where it becomes a file.
    pub expand: bool,
    pub content: String,
}

/// `ARG name[=default]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    pub default: Option<String>,
}

/// Flags of one instruction, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(Vec<(String, String)>);

impl Flags {
    /// Refuses flags that the instruction does not have.
    pub fn known(flags: Vec<(String, String)>, names: &[&str], line: usize) -> Result<Self> {
        match flags.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => Err(Error::new(line, format!("unknown flag: --{name}"))),
            None => Ok(Self(flags)),
        }
    }

    pub fn last(&self, name: &str) -> Option<String> {
        self.all(name).last().map(str::to_owned)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn is_set(&self, name: &str) -> bool {
        self.last(name).is_some_and(|value| value != "false")
    }
}

/// `COPY` and `ADD`; sources and the destination are not expanded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub sources: Vec<String>,
    pub destination: String,
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub exclude: Vec<String>,
    pub checksum: Option<String>,
    /// Heredocs are sources too.
    pub heredocs: Vec<Heredoc>,
    /// `ADD`: archives are unpacked and URLs fetched.
    pub add: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    None,
    Check { command: Command, options: Vec<(String, String)> },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Run { command: Command, network: Option<String>, heredocs: Vec<Heredoc> },
    Copy(Copy),
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Arg(Vec<Argument>),
    Cmd(Command),
    Entrypoint(Command),
    Workdir(String),
    User(String),
    Volume(Vec<String>),
    Expose(Vec<String>),
    StopSignal(String),
    Shell(Vec<String>),
    Healthcheck(Healthcheck),
    Onbuild(String),
    Maintainer(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    pub line: usize,
    /// As written, lines joined; for progress and history.
    pub text: String,
    pub kind: Kind,
}

pub fn parse(line: &Line, escape: char) -> Result<Instruction> {
    let text = format!("{} {}", line.keyword, line.rest);
    Ok(Instruction { line: line.number, text, kind: kind(line, escape)? })
}

fn kind(line: &Line, escape: char) -> Result<Kind> {
    let (keyword, rest, number) = (line.keyword.as_str(), line.rest.as_str(), line.number);
    let bare = matches!(keyword, "CMD" | "ENTRYPOINT");
    if rest.is_empty() && !bare {
        return Err(Error::new(number, format!("{keyword} requires at least one argument")));
    }
    let one = || match words::split(rest, escape).as_slice() {
        [_] => Ok(rest.to_owned()),
        _ => Err(Error::new(number, format!("{keyword} requires exactly one argument"))),
    };
    Ok(match keyword {
        "RUN" => run(line)?,
        "COPY" => copy(line, escape, false)?,
        "ADD" => copy(line, escape, true)?,
        "ENV" => Kind::Env(pairs(line, escape)?),
        "LABEL" => Kind::Label(pairs(line, escape)?),
        "ARG" => Kind::Arg(arguments(line, escape)?),
        "CMD" => Kind::Cmd(command(rest)),
        "ENTRYPOINT" => Kind::Entrypoint(command(rest)),
        "WORKDIR" => Kind::Workdir(rest.to_owned()),
        "USER" => Kind::User(one()?),
        "VOLUME" => Kind::Volume(list(rest, escape)),
        "EXPOSE" => Kind::Expose(words::split(rest, escape)),
        "STOPSIGNAL" => Kind::StopSignal(one()?),
        "SHELL" => match command(rest) {
            Command::Exec(words) if !words.is_empty() => Kind::Shell(words),
            _ => return Err(Error::new(number, "SHELL requires the arguments to be in JSON form")),
        },
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck(line)?),
        "ONBUILD" => {
            super::parse_trigger(rest).map_err(|error| Error::new(number, error.reason))?;
            Kind::Onbuild(rest.to_owned())
        }
        "MAINTAINER" => Kind::Maintainer(rest.to_owned()),
        other => return Err(Error::new(number, format!("unknown instruction: {other}"))),
    })
}

/// A JSON list of strings is a command, anything else is for a shell.
fn command(rest: &str) -> Command {
    match json_list(rest) {
        Some(words) => Command::Exec(words),
        None => Command::Shell(rest.to_owned()),
    }
}

fn json_list(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[').then(|| serde_json::from_str(rest).ok()).flatten()
}

fn list(rest: &str, escape: char) -> Vec<String> {
    json_list(rest).unwrap_or_else(|| words::split(rest, escape))
}

fn run(line: &Line) -> Result<Kind> {
    let (flags, rest) = words::flags(&line.rest);
    let flags = Flags::known(flags, &["mount", "network", "security"], line.number)?;
    if flags.last("security").is_some_and(|security| security != "sandbox") {
        return Err(Error::new(line.number, "RUN --security=insecure is not allowed"));
    }
    if rest.is_empty() {
        return Err(Error::new(line.number, "RUN requires a command"));
    }
    if flags.last("mount").is_some() {
        return Err(Error::new(line.number, "RUN --mount is not supported"));
    }
    let network = flags.last("network");
    if network.as_deref().is_some_and(|network| !matches!(network, "default" | "host" | "none")) {
        return Err(Error::new(line.number, "RUN --network must be default, host or none"));
    }
    Ok(Kind::Run { command: command(rest), network, heredocs: line.heredocs.clone() })
}

fn copy(line: &Line, escape: char, add: bool) -> Result<Kind> {
    let names: &[&str] = if add {
        &["chown", "chmod", "link", "checksum", "exclude", "keep-git-dir"]
    } else {
        &["chown", "chmod", "link", "from", "exclude"]
    };
    let (flags, rest) = words::flags(&line.rest);
    let flags = Flags::known(flags, names, line.number)?;
    let mut sources = list(rest, escape);
    let keyword = &line.keyword;
    let missing = || Error::new(line.number, format!("{keyword} requires at least two arguments"));
    let destination = sources.pop().ok_or_else(missing)?;
    if sources.is_empty() {
        return Err(missing());
    }
    if !line.heredocs.is_empty() {
        sources.retain(|source| !source.starts_with("<<"));
    }
    // Every layer can be stacked on others as it is, which is all that --link asks for.
    let _linked = flags.is_set("link");
    Ok(Kind::Copy(Copy {
        sources,
        destination,
        from: flags.last("from"),
        chown: flags.last("chown"),
        chmod: flags.last("chmod"),
        exclude: flags.all("exclude").map(str::to_owned).collect(),
        checksum: flags.last("checksum"),
        heredocs: line.heredocs.clone(),
        add,
    }))
}

/// `a=b c="d e"`, or the old `a the rest`.
fn pairs(line: &Line, escape: char) -> Result<Vec<(String, String)>> {
    let parts = words::split(&line.rest, escape);
    let old = parts.first().is_none_or(|first| !first.contains('='));
    if old {
        let Some((key, value)) = line.rest.split_once(char::is_whitespace) else {
            return Err(Error::new(line.number, format!("{} must have two arguments", line.keyword)));
        };
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    parts
        .iter()
        .map(|part| match part.split_once('=') {
            Some(("", _)) => Err(Error::new(line.number, format!("{} names can not be blank", line.keyword))),
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Error::new(
                line.number,
                format!("Syntax error - can't find = in {part:?}. Must be of the form: name=value"),
            )),
        })
        .collect()
}

fn arguments(line: &Line, escape: char) -> Result<Vec<Argument>> {
    let argument = |part: &String| {
        let (name, default) = match part.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (part.as_str(), None),
        };
        if name.is_empty() {
            return Err(Error::new(line.number, "ARG names can not be blank"));
        }
        Ok(Argument { name: name.to_owned(), default })
    };
    words::split(&line.rest, escape).iter().map(argument).collect()
}

fn healthcheck(line: &Line) -> Result<Healthcheck> {
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let (flags, rest) = words::flags(&line.rest);
    let options = Flags::known(flags, &names, line.number)?.0;
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.trim().is_empty() => Ok(Healthcheck::None),
        "NONE" => Err(Error::new(line.number, "HEALTHCHECK NONE takes no arguments")),
        "CMD" if !rest.trim().is_empty() => Ok(Healthcheck::Check { command: command(rest.trim()), options }),
        "CMD" => Err(Error::new(line.number, "missing command after HEALTHCHECK CMD")),
        other => Err(Error::new(line.number, format!("unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    }
}
