//! The process that stands beside every container and outlives the agent.
//!
//! ```text
//! agent -- spawns --> shim main -- forks --> shim (own session, subreaper, single-threaded)
//!                                              |-- forks --> creator: libcontainer, exits
//!                                              |             `-> init (a child of the shim)
//!                                              |-- serves `sock` with poll(2)
//!                                              `-- writes exit.json, then announces
//! ```
//!
//! The creator exits when the container runs, so that nothing libcontainer allocated stays in the shim. State is
//! the truth and events are hints: whoever connects asks [`protocol::Op::State`] and learns everything, exits of
//! execs nobody fetched yet included. The shim leaves only after [`protocol::Op::Delete`].

mod create;
mod devpts;
mod diagnostics;
mod exec;
pub mod finish;
pub mod launch;
pub(crate) mod log;
mod pause;
pub mod protocol;
mod server;
pub(crate) mod stage;
mod streams;
pub mod wire;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use launch::Launch;

/// Entry point of `knarr shim --dir DIRECTORY`: returns the process's exit code. Must be called before any thread
/// is started. Descriptor 0 is the locked launch.json, see [`launch::lock`]; descriptor 1 carries one line of JSON, a [`protocol::Started`], when the container runs or failed.
pub fn main(arguments: &[String]) -> i32 {
    let [flag, directory] = arguments else {
        eprintln!("usage: shim --dir DIRECTORY");
        return 2;
    };
    if flag != "--dir" {
        eprintln!("unknown shim option {flag:?}");
        return 2;
    }
    match detach(PathBuf::from(directory)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("shim of {directory}: {error}");
            1
        }
    }
}

/// Leaves the agent's session and process tree; the parent returns at once so that the agent can reap it.
fn detach(directory: PathBuf) -> std::io::Result<i32> {
    std::env::set_current_dir(&directory)?;
    // SAFETY: the shim has a single thread, see `main`.
    if let crate::sys::Forked::Parent(_) = unsafe { crate::sys::fork(false) }? {
        return Ok(0);
    }
    // From here on nobody waits for our exit code.
    let code = match run(directory) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    crate::sys::exit_now(code)
}

fn run(directory: PathBuf) -> std::io::Result<()> {
    rustix::process::setsid()?;
    // SAFETY: descriptor 1 is the pipe the agent gave us, and nothing else owns it.
    let report = unsafe { OwnedFd::from_raw_fd(libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3)) };
    let mut report = std::fs::File::from(report);
    // SAFETY: descriptor 0 is the locked launch.json that the agent gave us, open for the length of this call.
    let starting = rustix::io::fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(0) }, 3)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    for standard in 0..=2 {
        crate::sys::replace_fd(null.as_fd(), standard)?;
    }
    drop(null);
    let launch = match Launch::load(&directory) {
        Ok(launch) => launch,
        Err(error) => {
            return write_report(&mut report, &protocol::Started::failed(format!("launch.json: {error}")));
        }
    };
    let mut shim = match server::Shim::prepare(directory, launch) {
        Ok(shim) => shim,
        Err(error) => {
            return write_report(&mut report, &protocol::Started::failed(error.to_string()));
        }
    };
    // From now on shim.json tells of us.
    drop(starting);
    let started = shim.start();
    // The agent may have died meanwhile: the next one finds the container, and us beside it.
    let _unheard = write_report(&mut report, &started);
    if matches!(started, protocol::Started::Failed { .. }) {
        // Its end is our exit: whoever reads so far knows that we are gone.
        std::mem::forget(report);
        return Ok(());
    }
    drop(report);
    shim.serve()
}

fn write_report(report: &mut std::fs::File, started: &protocol::Started) -> std::io::Result<()> {
    let text = serde_json::to_string(started)?;
    report.write_all(text.as_bytes())
}
