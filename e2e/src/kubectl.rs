//! The stock kubectl, told which cluster to talk to.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command::{Run, run_with};

pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// The command, for those who need its pipes. `timeout` ends what would hang.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg("180").arg(&self.program).args(arguments).env("KUBECONFIG", &self.kubeconfig);
        // No cache from earlier clusters on the same port.
        command.env("KUBECACHEDIR", self.cache());
        command
    }

    /// The program and the kubeconfig, for those who wrap it in another program.
    pub fn parts(&self) -> (&Path, &Path) {
        (&self.program, &self.kubeconfig)
    }

    /// Beside the data directory, which is the cluster's own.
    fn cache(&self) -> PathBuf {
        let data = self.kubeconfig.parent().expect("the kubeconfig is in the data directory");
        data.with_file_name("kubectl-cache")
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        run_with(&mut self.command(arguments), None)
    }

    /// Runs it and gives what it printed; fails unless it succeeded.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok()
    }

    /// `kubectl apply -f -`.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        run_with(&mut self.command(&["apply", "-f", "-"]), Some(manifest)).ok()
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"))
    }
}
