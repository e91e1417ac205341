//! Running programs and looking at what they say.

use std::io::Write;
use std::process::{Command, Stdio};

/// How a program ended.
#[derive(Debug)]
pub struct Run {
    pub shown: String,
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// What it printed; fails unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "{} failed: {}{}", self.shown, self.stdout, self.stderr);
        self.stdout
    }

    /// What it complained of; fails if it succeeded.
    #[track_caller]
    pub fn err(self) -> String {
        assert!(!self.success, "{} succeeded: {}", self.shown, self.stdout);
        self.stderr
    }
}

pub fn run(command: &mut Command) -> Run {
    run_with(command, None)
}

/// Runs a program to its end, with `input` on its standard input.
pub fn run_with(command: &mut Command, input: Option<&str>) -> Run {
    let shown = format!("{command:?}");
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{shown}: {error}"));
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program may end without reading all of it.
        let _ended = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{shown}: {error}"));
    Run {
        shown,
        success: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
