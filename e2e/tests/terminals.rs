//! What people do at a terminal: shells in containers, attaching, watching.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use knarr_e2e::{Cluster, KUBECTLS, Kubectl, Run, run, run_with};

/// Runs kubectl on a terminal of its own, as a person would, and types `typed`.
fn at_terminal(kubectl: &Kubectl, arguments: &str, typed: &str) -> Run {
    let (program, kubeconfig) = kubectl.parts();
    let line = format!("stty rows 33 cols 111; exec timeout 60 {} {arguments}", program.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--echo", "never", "--command", &line, "/dev/null"]);
    run_with(command.env("KUBECONFIG", kubeconfig).env("TERM", "dumb"), Some(typed))
}

#[test]
fn shells_attach_and_watch_work_at_a_terminal() {
    let cluster = Cluster::start("terminals");
    cluster.import("busybox");
    let kubectl = cluster.kubectl();
    kubectl.ok(&["run", "busy", "--image=busybox:1.36", "--image-pull-policy=Never", "--", "sleep", "3600"]);
    let echo = "while read line; do echo got $line; [ \"$line\" = end ] && exit 3; done";
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/busy", "--timeout=120s"]);
    for version in KUBECTLS {
        let kubectl = cluster.kubectl_version(version);
        let shell = at_terminal(&kubectl, "exec -it busy -- sh", "stty size; tty; exit 5\n");
        assert_eq!(shell.code, Some(5), "{version}: {shell:?}");
        assert!(shell.stdout.contains("33 111"), "the size of the terminal, {version}: {shell:?}");
        assert!(shell.stdout.contains("/dev/pts/0"), "a terminal inside, {version}: {shell:?}");

        let name = format!("attached-{}", version.replace('.', "-"));
        let run = [
            "run",
            &name,
            "--image=busybox:1.36",
            "--image-pull-policy=Never",
            "--restart=Never",
            "--stdin",
            "--attach=false",
        ];
        kubectl.ok(&[&run[..], &["--", "sh", "-c", echo]].concat());
        kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        let attached = run_with(&mut kubectl.command(&["attach", "-i", &name]), Some("one\nend\n"));
        assert!(attached.stdout.contains("got one\ngot end\n"), "{version}: {attached:?}");
        kubectl.ok(&[
            "wait",
            &format!("pod/{name}"),
            "--for=jsonpath={.status.phase}=Failed",
            "--timeout=60s",
        ]);

        let once = at_terminal(
            &kubectl,
            "run once -it --rm --image=busybox:1.36 --image-pull-policy=Never --restart=Never -- sh",
            "echo in $((40+2)); exit\n",
        );
        assert!(once.stdout.contains("in 42"), "{version}: {once:?}");
        assert!(once.stdout.contains("pod \"once\" deleted"), "{version}: {once:?}");
    }
}

#[test]
fn a_watch_tells_what_happens_in_order() {
    let cluster = Cluster::start("watch");
    let kubectl = cluster.kubectl();
    kubectl.ok(&["wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=60s"]);
    let mut watch = kubectl
        .command(&["get", "configmaps", "--watch", "--no-headers", "--output-watch-events"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("the watch goes on").expect("a line");
    // What is there already is listed first; the watch goes on from that list.
    assert!(next().contains("kube-root-ca.crt"));
    kubectl.ok(&["create", "configmap", "second", "--from-literal=a=1"]);
    kubectl.ok(&["label", "configmap", "second", "tier=web"]);
    kubectl.ok(&["delete", "configmap", "second"]);
    let seen = [next(), next(), next()];
    // The child is `timeout`, which passes this on to kubectl.
    run(Command::new("kill").arg(watch.id().to_string())).ok();
    watch.wait().expect("kubectl is reaped");
    for (line, kind) in seen.iter().zip(["ADDED", "MODIFIED", "DELETED"]) {
        assert!(line.starts_with(kind) && line.contains("second"), "{seen:?}");
    }
}
