//! `knarr completion`.

use std::process::ExitCode;

use clap::CommandFactory;

pub fn run(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::cli::Cli::command(), "knarr", &mut script);
    show!("{}", String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
