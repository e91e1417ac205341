//! A whole build: which stages are needed, one after the other, and the image at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::Context;
use super::dockerfile::{self, Dockerfile, Kind};
use super::stage::Stage;
use super::steps::Steps;
use super::{Error, Progress, Request, Result};
use crate::cri::ImageInfo;
use crate::embedded::build::Builder;
use crate::image::manifest::Platform;
use crate::image::reference::Reference;
use crate::shim::log::timestamp;

/// Arguments that every RUN has when they are given, without an ARG.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Builds an image and names it; what happens is told line by line.
pub async fn build(builder: &Builder, request: &Request, progress: &Progress) -> Result<ImageInfo> {
    let tags = names(&request.tags)?;
    let asked = request.clone();
    let context = Arc::new(builder.blocking(move || Context::open(&asked)).await?);
    let file = &context.dockerfile;
    let globals = globals(file, request)?;
    let bases = file
        .stages
        .iter()
        .map(|stage| expand(&stage.base, file.escape, &globals).map(|base| (base, stage)))
        .collect::<Result<Vec<_>>>()?;
    for (_, stage) in &bases {
        check_platform(stage.platform.as_deref(), file.escape, &globals)?;
    }
    let last = target(file, request.target.as_deref())?;
    let needed = needed(file, &bases.iter().map(|(base, _)| base.as_str()).collect::<Vec<_>>(), last);
    let mut steps = Steps {
        builder,
        request,
        context: &context,
        progress,
        now: timestamp(crate::sys::now_nanos()),
        done: vec![None; file.stages.len()],
    };
    for (index, (base, written)) in bases.iter().enumerate().filter(|(index, _)| needed[*index]) {
        let stage = run_stage(&steps, index, base, written, &globals).await;
        steps.done[index] = Some(stage?);
    }
    let unused = unused(file, request);
    if !unused.is_empty() {
        steps.say(format!("[Warning] One or more build-args [{}] were not consumed", unused.join(" ")));
    }
    let Some(mut stage) = steps.done[last].take() else {
        return Err(Error::Invalid("the stage was not built".to_owned()));
    };
    for (name, value) in &request.labels {
        stage.config.insert("Labels", name, value.as_str().into());
    }
    builder.finish(&stage, tags).await
}

async fn run_stage(
    steps: &Steps<'_>,
    index: usize,
    base: &str,
    written: &dockerfile::Stage,
    globals: &BTreeMap<String, String>,
) -> Result<Stage> {
    let escape = steps.context.dockerfile.escape;
    let total = written.instructions.len() + 1;
    let of = written.name.as_ref().map(|name| format!("[{name}] ")).unwrap_or_default();
    steps.say(format!("{of}Step 1/{total} : FROM {base}"));
    let at = |line: usize, instruction: &str| {
        let instruction = instruction.to_owned();
        move |cause: Error| Error::Step { line, instruction, cause: Box::new(cause) }
    };
    let named = |stage: &&Stage| stage.name.as_deref() == Some(&base.to_ascii_lowercase());
    let earlier = steps.done[..index].iter().flatten().rev().find(named).cloned();
    let mut stage = match earlier {
        Some(stage) => Stage { arguments: BTreeMap::new(), cmd_set: false, ..stage },
        None => {
            let found = steps.builder.base(base, steps.request.pull, escape, steps.progress).await;
            found.map_err(at(written.line, &format!("FROM {base}")))?
        }
    };
    stage.name = written.name.clone();
    for name in PROXIES.iter().flat_map(|name| [name.to_string(), name.to_ascii_lowercase()]) {
        if let Some(value) = steps.request.arguments.get(&name) {
            stage.arguments.insert(name, value.clone());
        }
    }
    let triggers = stage.config.strings("OnBuild");
    stage.config.set("OnBuild", serde_json::Value::Null);
    for trigger in &triggers {
        let instruction = dockerfile::parse_trigger(trigger)?;
        steps.say(format!("{of}ONBUILD {}", instruction.text));
        steps.step(&mut stage, &instruction).await.map_err(at(written.line, &instruction.text))?;
    }
    for (number, instruction) in written.instructions.iter().enumerate() {
        steps.say(format!("{of}Step {}/{total} : {}", number + 2, instruction.text));
        // An ARG without a value takes that of the one before the first FROM.
        if let Kind::Arg(arguments) = &instruction.kind {
            for argument in arguments.iter().filter(|argument| argument.default.is_none()) {
                if let Some(value) = globals.get(&argument.name) {
                    stage.arguments.insert(argument.name.clone(), value.clone());
                }
            }
        }
        let done = steps.step(&mut stage, instruction).await;
        done.map_err(at(instruction.line, &instruction.text))?;
    }
    Ok(stage)
}

fn names(tags: &[String]) -> Result<Vec<String>> {
    tags.iter()
        .map(|tag| {
            let reference: Reference =
                tag.parse().map_err(|error| Error::Invalid(format!("invalid tag {tag:?}: {error}")))?;
            let named = reference.tagged();
            named.ok_or_else(|| Error::Invalid(format!("invalid tag {tag:?}: a digest cannot be chosen")))
        })
        .collect()
}

/// Variables for FROM lines: those of the platform, then ARGs.
fn globals(file: &Dockerfile, request: &Request) -> Result<BTreeMap<String, String>> {
    let host = Platform::host();
    let variant = host.variant.clone().unwrap_or_default();
    let platform = match variant.as_str() {
        "" => format!("{}/{}", host.os, host.architecture),
        variant => format!("{}/{}/{variant}", host.os, host.architecture),
    };
    let mut found = BTreeMap::new();
    for side in ["TARGET", "BUILD"] {
        found.insert(format!("{side}PLATFORM"), platform.clone());
        found.insert(format!("{side}OS"), host.os.clone());
        found.insert(format!("{side}ARCH"), host.architecture.clone());
        found.insert(format!("{side}VARIANT"), variant.clone());
    }
    for argument in &file.arguments {
        let value = match (request.arguments.get(&argument.name), &argument.default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => expand(default, file.escape, &found)?,
            (None, None) => continue,
        };
        found.insert(argument.name.clone(), value);
    }
    Ok(found)
}

fn expand(word: &str, escape: char, variables: &BTreeMap<String, String>) -> Result<String> {
    dockerfile::expand(word, escape, &|name| variables.get(name).cloned()).map_err(Error::Invalid)
}

/// Nothing here emulates another machine.
fn check_platform(wanted: Option<&str>, escape: char, globals: &BTreeMap<String, String>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let wanted = expand(wanted, escape, globals)?;
    let host = Platform::host();
    let mut parts = wanted.split('/');
    if parts.next() == Some(host.os.as_str()) && parts.next() == Some(host.architecture.as_str()) {
        return Ok(());
    }
    Err(Error::Invalid(format!("platform {wanted} is not this machine's, {}/{}", host.os, host.architecture)))
}

fn target(file: &Dockerfile, wanted: Option<&str>) -> Result<usize> {
    let Some(wanted) = wanted else { return Ok(file.stages.len() - 1) };
    let lower = wanted.to_ascii_lowercase();
    let named = file.stages.iter().position(|stage| stage.name.as_deref() == Some(&lower));
    let numbered = || wanted.parse().ok().filter(|index| *index < file.stages.len());
    named
        .or_else(numbered)
        .ok_or_else(|| Error::Invalid(format!("target stage {wanted:?} could not be found")))
}

/// The stages that the last one stands on, by FROM and COPY --from.
fn needed(file: &Dockerfile, bases: &[&str], last: usize) -> Vec<bool> {
    let mut needed = vec![false; file.stages.len()];
    needed[last] = true;
    for index in (0..=last).rev() {
        if !needed[index] {
            continue;
        }
        let copies =
            file.stages[index].instructions.iter().filter_map(|instruction| match &instruction.kind {
                Kind::Copy(copy) => copy.from.as_deref(),
                _ => None,
            });
        let uses: Vec<String> = copies.chain([bases[index]]).map(str::to_ascii_lowercase).collect();
        for (earlier, stage) in file.stages[..index].iter().enumerate() {
            let number = earlier.to_string();
            needed[earlier] |= uses.iter().any(|used| Some(used) == stage.name.as_ref() || *used == number);
        }
    }
    needed
}

/// Given arguments that nothing declares.
fn unused(file: &Dockerfile, request: &Request) -> Vec<String> {
    let of_stages = file.stages.iter().flat_map(|stage| &stage.instructions);
    let declared = of_stages.filter_map(|instruction| match &instruction.kind {
        Kind::Arg(arguments) => Some(arguments),
        _ => None,
    });
    let declared: Vec<&str> =
        declared.flatten().chain(&file.arguments).map(|argument| argument.name.as_str()).collect();
    let known = |name: &str| declared.contains(&name) || PROXIES.contains(&&*name.to_ascii_uppercase());
    request.arguments.keys().filter(|name| !known(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stages_that_the_target_stands_on_are_built() {
        let text =
            "FROM x AS a\nFROM a AS b\nFROM y AS c\nFROM z\nCOPY --from=b /f /f\nCOPY --from=9 /f /f\n";
        let file = dockerfile::parse(text).expect("a Dockerfile");
        let bases: Vec<&str> = file.stages.iter().map(|stage| stage.base.as_str()).collect();
        assert_eq!(needed(&file, &bases, 3), [true, true, false, true]);
        assert_eq!(
            needed(&file, &bases, target(&file, Some("C")).expect("there")),
            [false, false, true, false]
        );
        assert!(target(&file, Some("nine")).is_err());
    }
}
