//! What flows between a client and a container: logs, exec, attach, files and ports.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use knarr_e2e::{Cluster, KUBECTLS, Kubectl, fetch, free_port, run};

/// A program that is ended with the test.
struct Running {
    child: Child,
    /// Held open: a program that prints into a closed pipe dies of it.
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child is `timeout`, which passes this on to kubectl; it may have ended by itself.
        run(Command::new("kill").arg(self.child.id().to_string()));
        let _reaped = self.child.wait();
    }
}

impl Running {
    fn start(kubectl: &Kubectl, arguments: &[&str]) -> Self {
        let mut child = kubectl.command(arguments).stdout(Stdio::piped()).spawn().expect("kubectl starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// Reads what it prints until a line contains `text`.
    fn wait_for(&mut self, text: &str) {
        let found = self.lines.by_ref().map_while(Result::ok).any(|line| line.contains(text));
        assert!(found, "kubectl ended without {text:?}");
    }
}

#[test]
fn every_supported_kubectl_streams_to_and_from_containers() {
    let cluster = Cluster::start("streams");
    cluster.import("busybox");
    let kubectl = cluster.kubectl();
    let script = "trap exit TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 1; done";
    let run =
        ["run", "busy", "--image=busybox:1.36", "--image-pull-policy=IfNotPresent", "--", "sh", "-c", script];
    kubectl.ok(&run);
    kubectl.ok(&["create", "deployment", "hello", "--image=knarr.local/hello"]);
    kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/busy", "--timeout=120s"]);
    for version in KUBECTLS {
        stream(&cluster.kubectl_version(version), version);
    }
}

fn stream(kubectl: &Kubectl, version: &str) {
    assert_eq!(kubectl.run(&["exec", "busy", "--", "sh", "-c", "exit 7"]).code, Some(7), "{version}");
    let separate = kubectl.run(&["exec", "busy", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((separate.stdout.as_str(), separate.stderr.as_str()), ("out\n", "err\n"), "{version}");

    let files = tempfile::tempdir().expect("a directory");
    let (there, back) = (files.path().join("there"), files.path().join("back"));
    let content = "x".repeat(100_000);
    std::fs::write(&there, &content).expect("writes");
    kubectl.ok(&["cp", &there.display().to_string(), "busy:/tmp/file"]);
    kubectl.ok(&["cp", "busy:/tmp/file", &back.display().to_string()]);
    assert_eq!(std::fs::read_to_string(&back).expect("reads"), content, "{version}");

    Running::start(kubectl, &["logs", "-f", "busy", "--tail=1"]).wait_for("line ");
    let port = free_port().to_string();
    let mut forward = Running::start(kubectl, &["port-forward", "deployment/hello", &format!("{port}:8080")]);
    forward.wait_for("Forwarding from");
    let page = fetch(&format!("http://127.0.0.1:{port}/")).expect("the forwarded port answers");
    assert!(page.contains("Hello from knarr"), "{version}: {page}");
}
