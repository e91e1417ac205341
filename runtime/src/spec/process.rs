//! The container's process: what to run, as whom, with which environment.

use super::{Error, Input, Result, capabilities, user};
use crate::cri::Profile;
use crate::shim::launch::Process;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub fn process(input: &Input<'_>, warnings: &mut Vec<String>) -> Result<Process> {
    let security = &input.config.security;
    let user = user::resolve(&input.rootfs, security, &input.image.user)?;
    let mut env = environment(input);
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home.as_deref().unwrap_or("/")));
    }
    Ok(Process {
        args: arguments(input)?,
        env,
        cwd: working_directory(input),
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        capabilities: capabilities::capabilities(security, capabilities::bounding_set(), warnings),
        no_new_privs: security.no_new_privs,
        rlimits: Vec::new(),
        oom_score_adj: Some(input.config.resources.oom_score_adj as i32),
        seccomp: None,
        seccomp_flags: 0,
        apparmor: apparmor(input)?,
        tty: input.config.tty,
    })
}

/// Only a profile that the pod names: the default one needs a parser that nodes may not have.
fn apparmor(input: &Input<'_>) -> Result<Option<String>> {
    let Some(Profile::Localhost(profile)) = &input.config.security.apparmor else { return Ok(None) };
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if !enabled.starts_with('Y') {
        return Err(Error::Invalid(format!(
            "apparmor profile {profile:?}: AppArmor is not enabled on this node"
        )));
    }
    Ok((!input.config.security.privileged).then(|| profile.clone()))
}

/// The pod's command replaces the image's entrypoint and with it the image's arguments.
fn arguments(input: &Input<'_>) -> Result<Vec<String>> {
    let (config, image) = (input.config, input.image);
    let (command, args) = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => (&config.command, &config.args),
        (true, false) => (&image.entrypoint, &config.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let all: Vec<String> = command.iter().chain(args).cloned().collect();
    if all.is_empty() {
        return Err(Error::Invalid("no command specified".to_owned()));
    }
    if all.iter().any(|argument| argument.contains('\0')) {
        return Err(Error::Invalid("command contains a zero byte".to_owned()));
    }
    Ok(all)
}

/// Later entries win: the image's, then the pod's.
fn environment(input: &Input<'_>) -> Vec<String> {
    let mut env: Vec<String> = vec![DEFAULT_PATH.to_owned()];
    if !input.hostname.is_empty() {
        env.push(format!("HOSTNAME={}", input.hostname));
    }
    if input.config.tty {
        env.push("TERM=xterm".to_owned());
    }
    let pod = input.config.env.iter().map(|(name, value)| format!("{name}={value}"));
    for entry in input.image.env.iter().cloned().chain(pod) {
        let name = &entry[..entry.find('=').map_or(entry.len(), |at| at + 1)];
        match env.iter_mut().find(|known| known.starts_with(name)) {
            Some(known) => *known = entry,
            None => env.push(entry),
        }
    }
    env
}

fn working_directory(input: &Input<'_>) -> String {
    let asked = [&input.config.working_dir, &input.image.working_dir].into_iter().find(|d| !d.is_empty());
    match asked {
        Some(directory) if directory.starts_with('/') => directory.clone(),
        Some(directory) => format!("/{directory}"),
        None => "/".to_owned(),
    }
}
