//! What goes over a shim's socket, and what it leaves in files.
//!
//! One JSON message per SOCK_SEQPACKET packet, file descriptors beside it. Requests carry an id that the reply
//! repeats; events come unasked after Hello. A shim speaks exactly one version: it may be older than the agent,
//! which is why Hello names it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::launch::Process;

pub const VERSION: u32 = 1;
pub const SOCKET: &str = "sock";
pub const SHIM_FILE: &str = "shim.json";
pub const EXIT_FILE: &str = "exit.json";

#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    pub op: Op,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Op {
    Hello {
        version: u32,
    },
    State,
    /// To init, or to everything in the cgroup.
    Kill {
        signal: i32,
        all: bool,
    },
    /// Descriptors, where not a terminal: stdin, stdout, stderr, those that are announced. With a terminal the
    /// reply carries its master.
    Exec {
        exec: String,
        process: Box<Process>,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    KillExec {
        exec: String,
        signal: i32,
    },
    /// Acknowledges an exec's exit: the shim forgets it.
    DeleteExec {
        exec: String,
    },
    /// Of the container's terminal.
    Resize {
        columns: u16,
        rows: u16,
    },
    CloseStdin,
    /// Descriptors: the read end for stdin, write ends for stdout and stderr, those that are announced.
    Attach {
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    ReopenLog,
    /// Kills what is left, answers, leaves.
    Delete,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    Reply { id: u64, result: Result<Answer, Failure> },
    Event(Event),
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Hello { version: u32 },
    State(State),
    ExecStarted { pid: i32 },
    Done,
}

/// Why a request failed; `exit_code` for commands that cannot be executed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    pub message: String,
    pub exit_code: Option<i32>,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure { message: error.to_string(), exit_code: None }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    Exited(Exit),
    ExecExited { exec: String, exit_code: i32 },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub pid: i32,
    pub started_at: i64,
    pub exit: Option<Exit>,
    pub execs: Vec<ExecState>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ExecState {
    pub exec: String,
    pub pid: i32,
    pub exit_code: Option<i32>,
}

/// `exit.json`: how the container ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exit {
    pub exit_code: i32,
    pub signal: i32,
    pub finished_at: i64,
    pub oom_killed: bool,
    /// Why it never started, where that is so.
    pub start_error: Option<String>,
}

/// `shim.json`: who serves this container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimFile {
    pub version: u32,
    pub boot_id: String,
    pub shim: ProcessId,
    pub init: Option<ProcessId>,
    pub started_at: i64,
}

/// A process, told apart from later ones with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    pub start_time: u64,
}

impl ProcessId {
    pub fn of(pid: i32) -> Option<Self> {
        Some(ProcessId { pid, start_time: crate::sys::start_time(pid)? })
    }

    pub fn is_alive(self) -> bool {
        crate::sys::start_time(self.pid) == Some(self.start_time)
    }
}

/// What a new shim says on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub enum Started {
    Running { pid: i32, started_at: i64 },
    Failed { message: String, exit_code: i32 },
}

impl Started {
    pub fn failed(message: String) -> Self {
        Started::Failed { message, exit_code: 128 }
    }
}

/// Reads one of the files above; `None` when there is none yet, or only a torn one from a crash of the machine.
pub fn read_file<T: for<'a> Deserialize<'a>>(directory: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&std::fs::read(directory.join(name)).ok()?).ok()
}
