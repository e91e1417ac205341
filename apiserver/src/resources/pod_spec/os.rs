//! The operating system a pod says it is for, and what follows from it.

use knarr_api::field::{Error, ErrorList};

use super::windows;
use crate::resources::at::At;

const SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// Containers of every kind, in the order upstream visits them.
pub fn every_container<'a>(spec: &At<'a>) -> impl Iterator<Item = At<'a>> + use<'a> {
    let kinds = ["initContainers", "containers", "ephemeralContainers"];
    kinds.map(|field| spec.items(field)).into_iter().flatten()
}

pub fn validate(spec: &At<'_>, errors: &mut ErrorList) {
    let Some(os) = spec.some("os") else { return };
    match os.text("name") {
        "" => errors.push(os.at("name").required("")),
        "linux" => only_linux(spec, errors),
        "windows" => windows::only_windows(spec, errors),
        name => errors.push(Error::not_supported(os.path(), name, &["linux", "windows"])),
    }
}

fn only_linux(spec: &At<'_>, errors: &mut ErrorList) {
    for context in
        std::iter::once(spec.clone()).chain(every_container(spec)).map(|of| of.at("securityContext"))
    {
        if let Some(options) = context.some("windowsOptions") {
            errors.push(options.forbidden("windows options cannot be set for a linux pod"));
        }
    }
}

/// The signal that stops a container.
pub fn stop_signal(signal: &At<'_>, spec: &At<'_>, errors: &mut ErrorList) {
    match spec.some("os").map(|os| os.text("name")) {
        None => errors.push(signal.forbidden("may not be set for containers with empty `spec.os.name`")),
        Some("windows") => signal.one_of(errors, &["SIGKILL", "SIGTERM"]),
        Some("linux") => signal.one_of(errors, &SIGNALS),
        Some(_) => {}
    }
}
