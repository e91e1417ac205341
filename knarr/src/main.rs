//! knarr: Kubernetes as one binary.
//!
//! This crate is the command line and the order of components, nothing else: behaviour lives in the rooms.

mod cli;
mod cluster;
mod commands;
mod control;
mod hello;
mod kubeconfig;
mod server;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // A shim must stay single-threaded and small: it never sees the command line parser or tokio.
    if arguments.get(1).is_some_and(|first| first == "shim") {
        let rest: Vec<String> = arguments[2..].iter().map(|a| a.to_string_lossy().into_owned()).collect();
        return ExitCode::from(u8::try_from(knarr_runtime::shim::main(&rest)).unwrap_or(u8::MAX));
    }
    match commands::run(cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
