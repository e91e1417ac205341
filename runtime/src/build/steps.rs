//! Doing one instruction.

use serde_json::{Value, json};

use super::chmod::Chmod;
use super::context::Context;
use super::copy::{self, Looks};
use super::dockerfile::{Command, Copy, Healthcheck, Instruction, Kind};
use super::ignore::Ignore;
use super::stage::Stage;
use super::tree::{self, Found, Root};
use super::{Error, Network, Progress, Request, Result, io_error};
use crate::embedded::build::{Builder, Run};
use crate::image::digest::Digest;
use crate::spec::user;

/// All that the steps of one build share.
pub struct Steps<'a> {
    pub builder: &'a Builder,
    pub request: &'a Request,
    pub context: &'a Context,
    pub progress: &'a Progress,
    /// When this build began, as image configs write times.
    pub now: String,
    /// Stages that are done, by their place in the Dockerfile.
    pub done: Vec<Option<Stage>>,
}

impl Steps<'_> {
    pub async fn step(&self, stage: &mut Stage, instruction: &Instruction) -> Result<()> {
        let by = &instruction.text;
        match &instruction.kind {
            Kind::Run { command, network, heredocs } => {
                let text = match (command, heredocs.as_slice()) {
                    // A heredoc alone is the script; with a command it is that command's input.
                    (Command::Shell(text), [only]) if text.trim_start().starts_with("<<") => {
                        Command::Shell(only.content.clone())
                    }
                    (Command::Shell(text), [_, ..]) => {
                        let ends = heredocs.iter().map(|h| format!("\n{}{}", h.content, h.name));
                        Command::Shell(text.clone() + &ends.collect::<String>() + "\n")
                    }
                    _ => command.clone(),
                };
                return self.run(stage, &text, network.as_deref(), by).await;
            }
            Kind::Copy(copy) => return self.copy(stage, copy, by).await,
            Kind::Workdir(path) => return self.workdir(stage, path, by).await,
            Kind::Arg(arguments) => {
                for argument in arguments {
                    let given = self.request.arguments.get(&argument.name).cloned();
                    let value = match (given, &argument.default) {
                        (Some(value), _) => Some(value),
                        (None, Some(default)) => Some(stage.expand(default)?),
                        (None, None) => None,
                    };
                    if let Some(value) = value {
                        stage.arguments.insert(argument.name.clone(), value);
                    }
                }
            }
            kind => configure(stage, kind)?,
        }
        stage.note(by);
        Ok(())
    }

    async fn run(&self, stage: &mut Stage, command: &Command, network: Option<&str>, by: &str) -> Result<()> {
        let words = words(stage, command);
        let network = if network == Some("none") { Network::None } else { self.request.network };
        let run = stage.config.run()?;
        let env = stage.environment();
        let key = key(&[
            "run",
            stage.chain(),
            &json!([words, run.env, run.user, run.working_dir, env, network]).to_string(),
        ]);
        if let Some(made) = self.cached(&key) {
            stage.push(made, by);
            return Ok(());
        }
        let step = Run { layers: stage.layers.clone(), image: run, command: words, env, network };
        let ran = self.builder.run(step, self.progress).await?;
        let made = match ran.exit_code {
            0 => self.builder.commit(&ran, &stage.layers, &self.now).await,
            code => {
                let command = match command {
                    Command::Shell(text) => text.trim().to_owned(),
                    Command::Exec(words) => words.join(" "),
                };
                Err(Error::Failed { command, code })
            }
        };
        self.builder.remove(ran).await?;
        let made = made?;
        self.builder.store().remember(&key, &made)?;
        stage.push(made, by);
        Ok(())
    }

    fn cached(&self, key: &str) -> Option<crate::image::Cached> {
        if self.request.no_cache {
            return None;
        }
        let found = self.builder.store().cached(key)?;
        self.builder.hold_cached(&found);
        self.say(" ---> Using cache");
        Some(found)
    }

    pub fn say(&self, line: impl Into<String>) {
        // Whoever asked may have hung up.
        let _unheard = self.progress.send(line.into());
    }

    async fn copy(&self, stage: &mut Stage, copy: &Copy, by: &str) -> Result<()> {
        let destination = stage.absolute(&stage.expand(&copy.destination)?);
        let exclude = copy.exclude.iter().map(|pattern| stage.expand(pattern)).collect::<Result<Vec<_>>>()?;
        let exclude = Ignore::of(exclude.iter().map(String::as_str)).map_err(Error::Invalid)?;
        // Stays mounted until its files are copied.
        let other = match &copy.from {
            Some(from) => Some(self.builder.mount(&self.source(from, stage).await?.layers)?),
            None => None,
        };
        let opened;
        let (root, ignore) = match &other {
            Some(mounted) => {
                opened = Root::open(&mounted.root).map_err(io_error("open the source"))?;
                (&opened, &Ignore::default())
            }
            None => (&self.context.root, &self.context.ignore),
        };
        let (mut found, mut downloads) = (Vec::new(), Vec::new());
        for source in &copy.sources {
            let source = stage.expand(source)?;
            if copy.add && (source.starts_with("http://") || source.starts_with("https://")) {
                downloads.push(self.download(&source, copy.checksum.as_deref()).await?);
                continue;
            }
            found.extend(sources(root, &source, ignore, &exclude)?);
        }
        let documents = copy
            .heredocs
            .iter()
            .map(|heredoc| {
                let text = &heredoc.content;
                let content = if heredoc.expand { stage.expand(&quoted(text))? } else { text.clone() };
                Ok((heredoc.name.clone(), content.into_bytes()))
            })
            .collect::<Result<Vec<_>>>()?;
        let texts: Vec<(String, Vec<u8>)> = documents.into_iter().chain(downloads).collect();
        let several = found.len() + texts.len() > 1;
        if several && !destination.ends_with('/') {
            let message = "when using COPY with more than one source file, the destination must be a directory and end with a /";
            return Err(Error::Invalid(message.to_owned()));
        }
        let chown = copy.chown.as_ref().map(|owner| stage.expand(owner)).transpose()?;
        let chmod = copy.chmod.as_ref().map(|mode| stage.expand(mode)).transpose()?;
        let mode = chmod.as_deref().map(Chmod::parse).transpose()?;
        let with_owners = copy.from.is_some() && chown.is_none();
        let print = tree::fingerprint(&found, with_owners).map_err(io_error("read the files to copy"))?;
        let hashes: Vec<String> =
            texts.iter().map(|(name, text)| format!("{name}={}", Digest::of(text))).collect();
        let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        let key = key(&[
            if copy.add { "add" } else { "copy" },
            stage.chain(),
            print.as_str(),
            &json!([names, hashes, destination, chown, chmod, with_owners]).to_string(),
        ]);
        if let Some(made) = self.cached(&key) {
            stage.push(made, by);
            return Ok(());
        }
        let mounted = self.builder.mount(&stage.layers)?;
        let owner = match &chown {
            Some(text) => Some(user::owner(&mounted.root, text)?),
            None if with_owners => None,
            None => Some((0, 0)),
        };
        let looks = Looks { owner, mode: mode.as_ref() };
        let target = Root::open(&mounted.root).map_err(io_error("open the root"))?;
        let limits = self.builder.store().limits();
        for found in &found {
            put(found, &target, &destination, looks, copy.add.then_some(limits))?;
        }
        for (name, text) in &texts {
            let path = if destination.ends_with('/') || target.is_directory(&destination) {
                format!("{}/{name}", destination.trim_end_matches('/'))
            } else {
                destination.clone()
            };
            copy::write(&target, &path, text, looks).map_err(io_error(format!("write {path}")))?;
        }
        let made = self.builder.commit_mounted(&mounted, &stage.layers, &self.now).await?;
        self.builder.store().remember(&key, &made)?;
        stage.push(made, by);
        Ok(())
    }

    /// An earlier stage, or an image.
    async fn source(&self, from: &str, stage: &Stage) -> Result<Stage> {
        let from = stage.expand(from)?;
        let named = |stage: &&Stage| stage.name.as_deref() == Some(&from.to_ascii_lowercase());
        if let Some(found) = self.done.iter().flatten().rev().find(named) {
            return Ok(found.clone());
        }
        match from.parse::<usize>().ok().and_then(|index| self.done.get(index)) {
            Some(Some(found)) => Ok(found.clone()),
            _ => self.builder.base(&from, self.request.pull, stage.escape, self.progress).await,
        }
    }

    async fn download(&self, url: &str, checksum: Option<&str>) -> Result<(String, Vec<u8>)> {
        let content = crate::image::registry::download(url).await.map_err(crate::image::Error::from)?;
        if let Some(checksum) = checksum {
            let expected: Digest = checksum.parse()?;
            expected.verify(Digest::of(&content))?;
        }
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.is_empty() {
            return Err(Error::Invalid(format!("cannot determine a file name of {url}")));
        }
        Ok((name.to_owned(), content))
    }

    async fn workdir(&self, stage: &mut Stage, path: &str, by: &str) -> Result<()> {
        let path = stage.absolute(&stage.expand(path)?);
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { &path };
        stage.config.set("WorkingDir", path.into());
        let key = key(&["workdir", stage.chain(), path]);
        if let Some(made) = self.cached(&key) {
            stage.push(made, by);
            return Ok(());
        }
        let mounted = self.builder.mount(&stage.layers)?;
        let root = Root::open(&mounted.root).map_err(io_error("open the root"))?;
        if root.is_directory(path) {
            stage.note(by);
            return Ok(());
        }
        root.make_directories(path, Some((0, 0))).map_err(io_error(format!("create {path}")))?;
        let made = self.builder.commit_mounted(&mounted, &stage.layers, &self.now).await?;
        self.builder.store().remember(&key, &made)?;
        stage.push(made, by);
        Ok(())
    }
}

fn put(
    found: &Found,
    target: &Root,
    destination: &str,
    looks: Looks<'_>,
    unpack: Option<crate::image::Limits>,
) -> Result<()> {
    // ADD unpacks archives of the context.
    if let (Some(limits), false, Some(entry)) = (unpack, found.is_directory(), found.entries.first())
        && copy::unpack(&entry.path, target, destination.trim_end_matches('/'), limits)?
    {
        return Ok(());
    }
    copy::copy(found, target, destination, looks).map_err(io_error(format!("copy {}", found.name)))
}

/// What one source stands for; nothing is an error.
fn sources(root: &Root, source: &str, ignore: &Ignore, exclude: &Ignore) -> Result<Vec<Found>> {
    let missing = || Error::NotInContext { name: source.to_owned() };
    let paths =
        root.glob(&super::ignore::clean(source), ignore).map_err(io_error(format!("look for {source}")))?;
    let mut all = Vec::with_capacity(paths.len());
    for path in &paths {
        if ignore.excludes(path) && !ignore.may_keep_below(path) {
            return Err(missing());
        }
        match root.find(path, ignore, exclude) {
            Ok(found) => all.push(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(io_error(format!("read {path}"))(error)),
        }
    }
    if all.is_empty() { Err(missing()) } else { Ok(all) }
}

/// Text whose quotes are only characters.
fn quoted(text: &str) -> String {
    text.replace('"', "\\\"").replace('\'', "\\'")
}

fn key(parts: &[&str]) -> String {
    let joined: Vec<String> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    Digest::of(joined.concat().as_bytes()).hex().to_owned()
}

/// A command as the image's config has it.
fn words(stage: &Stage, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => {
            let mut words = stage.config.shell();
            words.push(text.clone());
            words
        }
    }
}

/// Instructions that only change the configuration.
fn configure(stage: &mut Stage, kind: &Kind) -> Result<()> {
    match kind {
        Kind::Env(pairs) => {
            // All values are read before any is set.
            let pairs = expanded(stage, pairs)?;
            pairs.iter().for_each(|(name, value)| stage.config.set_env(name, value));
        }
        Kind::Label(pairs) => {
            let pairs = expanded(stage, pairs)?;
            pairs.iter().for_each(|(name, value)| stage.config.insert("Labels", name, json!(value)));
        }
        Kind::Cmd(command) => {
            let words = words(stage, command);
            stage.config.set("Cmd", json!(words));
            stage.cmd_set = true;
        }
        Kind::Entrypoint(command) => {
            let words = words(stage, command);
            stage.config.set("Entrypoint", json!(words));
            if !stage.cmd_set {
                stage.config.set("Cmd", Value::Null);
            }
        }
        Kind::User(user) => {
            let user = stage.expand(user)?;
            stage.config.set("User", user.into());
        }
        Kind::Volume(paths) => {
            for path in paths {
                let path = stage.expand(path)?;
                stage.config.insert("Volumes", &path, json!({}));
            }
        }
        Kind::Expose(ports) => {
            for port in ports {
                for port in stage.expand(port)?.split_whitespace() {
                    let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                    stage.config.insert("ExposedPorts", &port, json!({}));
                }
            }
        }
        Kind::StopSignal(signal) => {
            let signal = stage.expand(signal)?;
            stage.config.set("StopSignal", signal.into());
        }
        Kind::Shell(words) => stage.config.set("Shell", json!(words)),
        Kind::Healthcheck(check) => {
            let value = health(stage, check)?;
            stage.config.set("Healthcheck", value);
        }
        Kind::Onbuild(trigger) => {
            let mut all = stage.config.strings("OnBuild");
            all.push(trigger.clone());
            stage.config.set("OnBuild", json!(all));
        }
        Kind::Maintainer(name) => stage.config.set_author(name),
        Kind::Run { .. } | Kind::Copy(_) | Kind::Workdir(_) | Kind::Arg(_) => {}
    }
    Ok(())
}

fn expanded(stage: &Stage, pairs: &[(String, String)]) -> Result<Vec<(String, String)>> {
    pairs.iter().map(|(name, value)| Ok((stage.expand(name)?, stage.expand(value)?))).collect()
}

fn health(stage: &Stage, check: &Healthcheck) -> Result<Value> {
    let Healthcheck::Check { command, options } = check else { return Ok(json!({"Test": ["NONE"]})) };
    let test: Vec<String> = match command {
        Command::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
        Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
    };
    let mut health = json!({"Test": test});
    for (name, value) in options {
        let value = stage.expand(value)?;
        let (field, value) = match name.as_str() {
            "interval" => ("Interval", nanoseconds(&value)?),
            "timeout" => ("Timeout", nanoseconds(&value)?),
            "start-period" => ("StartPeriod", nanoseconds(&value)?),
            "start-interval" => ("StartInterval", nanoseconds(&value)?),
            _ => (
                "Retries",
                value.parse().map_err(|_| Error::Invalid(format!("invalid --retries {value:?}")))?,
            ),
        };
        health[field] = value.into();
    }
    Ok(health)
}

/// `1m30s`, as Go writes durations.
fn nanoseconds(text: &str) -> Result<i64> {
    let wrong = || Error::Invalid(format!("invalid duration {text:?}"));
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        let tail = &rest[end..];
        let unit = &tail[..tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len())];
        let scale = match unit {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return Err(wrong()),
        };
        total += number * scale;
        rest = &tail[unit.len()..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total as i64) }
}
