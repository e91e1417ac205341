//! One file per command.

/// Prints a line. Who reads may have gone (`knarr up | head -1`): the command still does all it is there for.
macro_rules! say {
    ($($argument:tt)*) => {{
        let _gone = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($argument)*)));
    }};
}

/// Prints a text that has its own line breaks, to the same reader.
macro_rules! show {
    ($($argument:tt)*) => {{
        let _gone = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!($($argument)*));
    }};
}

mod background;
mod completion;
mod delete;
mod down;
mod image;
mod kubeconfig;
mod nodes;
mod process;
mod snapshot;
mod status;
mod store;
mod token;
mod up;
pub mod version;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cli::{Cli, Command};

/// Runs a command on the runtime it needs: one thread for those that only ask, all cores for servers.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Version => version::run(),
        Command::Completion { shell } => completion::run(shell),
        Command::Kubeconfig(named) => kubeconfig::run(&named),
        Command::Up(up) => as_root("up", || on_one_thread(up::run(up))),
        Command::Status(named) => as_root("status", || on_one_thread(status::run(named))),
        Command::Down(down) => as_root("down", || on_one_thread(down::run(down))),
        Command::Delete(named) => as_root("delete", || on_one_thread(delete::run(named))),
        Command::Token(token) => as_root("token", || on_one_thread(token::run(token))),
        Command::Image(image) => as_root("image", || on_one_thread(image::run(image))),
        Command::Snapshot(snapshot) => snapshot::run(snapshot),
        Command::Store(args) => store::run(args),
        Command::Server(server) => as_root("server", || crate::server::run(server)),
        Command::Agent(agent) => as_root("agent", || crate::server::agent::run(agent)),
        Command::Hello => crate::hello::run(),
        Command::RemoveVolume { directory } => remove_volume(&directory),
        Command::Shim => bail!("knarr shim is started by knarr itself"),
    }
}

/// What is gone already is removed.
fn remove_volume(directory: &Path) -> anyhow::Result<ExitCode> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn as_root(command: &str, work: impl FnOnce() -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "knarr {command} must run as root, because it makes namespaces and mounts: try `sudo knarr {command}`"
        );
    }
    work()
}

fn on_one_thread(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
