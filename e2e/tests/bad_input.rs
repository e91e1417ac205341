//! What does not make sense is refused in upstream's words, and the server goes on.

use std::process::Command;

use knarr_e2e::{Cluster, Kubectl, run_with};

fn complaint(kubectl: &Kubectl, manifest: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), manifest).expect("writes");
    kubectl.run(&["create", "-f", &file.path().display().to_string()]).err()
}

#[test]
fn bad_manifests_are_refused_with_upstreams_reasons() {
    let cluster = Cluster::start("bad");
    let kubectl = cluster.kubectl();
    let pod = |name: &str, spec: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    for (manifest, expected) in [
        ("{".to_owned(), "error parsing"),
        (
            pod("Upper", "{containers: [{name: c, image: i}]}"),
            "a lowercase RFC 1123 subdomain must consist of",
        ),
        (pod("p", "{containers: []}"), "spec.containers: Required value"),
        (pod("p", "{containers: [{name: c, image: i}], nonsense: 1}"), "unknown field \"spec.nonsense\""),
        (
            pod("p", "{containers: [{name: c, image: i, ports: [{containerPort: 99999}]}]}"),
            "must be between 1 and 65535",
        ),
        (
            pod("p", "{containers: [{name: c, image: i, resources: {requests: {cpu: many}}}]}"),
            "quantities must match the regular expression",
        ),
    ] {
        let said = complaint(&kubectl, &manifest);
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
    let missing = kubectl.run(&["create", "configmap", "c", "-n", "nowhere"]).err();
    assert!(missing.contains("namespaces \"nowhere\" not found"), "{missing}");
    let selector = kubectl.run(&["get", "pods", "-l", "a in b"]).err();
    assert!(selector.contains("unable to parse"), "{selector}");
    let field = kubectl.run(&["get", "pods", "--field-selector", "spec.nothing=1"]).err();
    assert!(field.contains("field label not supported: spec.nothing"), "{field}");
    assert!(kubectl.ok(&["get", "--raw", "/readyz"]).contains("ok"));
}

#[test]
fn impossible_pods_say_why_and_harm_nobody() {
    let cluster = Cluster::start("impossible");
    cluster.import("busybox");
    let kubectl = cluster.kubectl();
    let pod = |name: &str, image: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers: [{{name: c, image: '{image}', imagePullPolicy: IfNotPresent{rest}}}]\n"
        )
    };
    kubectl.apply(&pod("large", "busybox:1.36", ", resources: {requests: {cpu: '4000'}}"));
    kubectl.apply(&pod("absent", "127.0.0.1:1/nothing:v1", ""));
    kubectl.apply(&pod("no-command", "busybox:1.36", ", command: [/does/not/exist]"));
    kubectl.ok(&[
        "wait",
        "pod/large",
        "--for=jsonpath={.status.conditions[0].reason}=Unschedulable",
        "--timeout=60s",
    ]);
    let large = kubectl.ok(&["describe", "pod", "large"]);
    assert!(large.contains("0/1 nodes are available: 1 Insufficient cpu."), "{large}");
    kubectl.ok(&["wait", "pod/no-command", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s"]);
    let status = kubectl.json(&["get", "pod", "no-command"]);
    let ended = &status["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (ended["reason"].as_str(), ended["exitCode"].as_i64()),
        (Some("StartError"), Some(128)),
        "{ended}"
    );
    let waiting = knarr_e2e::eventually("the pull fails", || {
        let pod = kubectl.json(&["get", "pod", "absent"]);
        let reason = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str()?.to_owned();
        (reason != "ContainerCreating").then_some(reason)
    });
    assert!(
        ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"].contains(&waiting.as_str()),
        "{waiting}"
    );
}

/// A request of our own making, as no client library would send it: curl with the administrator's certificate.
struct Raw {
    directory: tempfile::TempDir,
    server: String,
}

impl Raw {
    fn new(kubectl: &Kubectl, server: String) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let view = kubectl.ok(&["config", "view", "--raw", "--flatten", "-o", "json"]);
        let config: serde_json::Value = serde_json::from_str(&view).expect("JSON");
        for (file, encoded) in [
            ("ca", &config["clusters"][0]["cluster"]["certificate-authority-data"]),
            ("cert", &config["users"][0]["user"]["client-certificate-data"]),
            ("key", &config["users"][0]["user"]["client-key-data"]),
        ] {
            let encoded = encoded.as_str().expect("inline data");
            let decoded = run_with(Command::new("base64").arg("-d"), Some(encoded)).ok();
            std::fs::write(directory.path().join(file), decoded).expect("writes");
        }
        Self { directory, server }
    }

    /// The status code and the answer.
    fn send(&self, arguments: &[&str], path: &str, body: Option<&str>) -> (String, serde_json::Value) {
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        let mut command = Command::new("curl");
        // Older curls lose an early answer over HTTP/2 when they have not sent their whole body.
        command.args([
            "--http1.1",
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--write-out",
            "\n%{http_code}",
        ]);
        command.args(["--cacert", &file("ca"), "--cert", &file("cert"), "--key", &file("key")]);
        if body.is_some() {
            command.args(["--data-binary", "@-"]);
        }
        let answer = run_with(command.args(arguments).arg(format!("{}{path}", self.server)), body).ok();
        let (body, code) = answer.rsplit_once('\n').expect("a code");
        (code.to_owned(), serde_json::from_str(body).unwrap_or_default())
    }
}

#[test]
fn raw_requests_that_make_no_sense_get_a_status() {
    let cluster = Cluster::start("raw");
    let kubectl = cluster.kubectl();
    kubectl.ok(&["wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=60s"]);
    kubectl.ok(&["create", "configmap", "here", "--from-literal=a=1"]);
    let raw = Raw::new(&kubectl, format!("https://127.0.0.1:{}", cluster.api_port));
    let (maps, json) = ("/api/v1/namespaces/default/configmaps", "Content-Type: application/json");
    let merge = "Content-Type: application/merge-patch+json";
    let patch = "Content-Type: application/json-patch+json";
    let post = |body: &str| raw.send(&["-X", "POST", "-H", json], maps, Some(body));

    let large =
        format!("{{\"metadata\": {{\"name\": \"l\"}}, \"data\": {{\"v\": \"{}\"}}}}", "x".repeat(4 << 20));
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let here = format!("{maps}/here");
    let old = r#"{"metadata": {"name": "here", "resourceVersion": "1"}, "data": {}}"#;
    let outside = r#"[{"op": "test", "path": "/data/a", "value": "2"}]"#;
    for (case, (code, status), wanted, reason, says) in [
        ("large", post(&large), "413", "RequestEntityTooLarge", "limit is 3145728"),
        ("broken", post("{"), "400", "BadRequest", ""),
        ("deep", post(&deep), "400", "BadRequest", ""),
        ("no name", post("{}"), "422", "Invalid", "name or generateName is required"),
        (
            "there already",
            post(r#"{"metadata": {"name": "here"}}"#),
            "409",
            "AlreadyExists",
            "already exists",
        ),
        ("wrong kind", post(r#"{"kind": "Secret", "apiVersion": "v1"}"#), "400", "BadRequest", "Secret"),
        (
            "stale",
            raw.send(&["-X", "PUT", "-H", json], &here, Some(old)),
            "409",
            "Conflict",
            "the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            "bad merge patch",
            raw.send(&["-X", "PATCH", "-H", merge], &here, Some("[1]")),
            "400",
            "BadRequest",
            "",
        ),
        ("failed test", raw.send(&["-X", "PATCH", "-H", patch], &here, Some(outside)), "422", "Invalid", ""),
        (
            "unknown patch",
            raw.send(&["-X", "PATCH", "-H", "Content-Type: text/plain"], &here, Some("{}")),
            "415",
            "UnsupportedMediaType",
            "",
        ),
        ("no such subresource", raw.send(&[], &format!("{here}/nothing"), None), "404", "NotFound", ""),
        ("bad limit", raw.send(&[], &format!("{maps}?limit=many"), None), "400", "BadRequest", ""),
        (
            "bad continue",
            raw.send(&[], &format!("{maps}?limit=1&continue=%7F"), None),
            "400",
            "BadRequest",
            "",
        ),
        (
            "bad method",
            raw.send(&["-X", "POST"], "/api/v1/namespaces/default/configmaps/here", None),
            "405",
            "MethodNotAllowed",
            "",
        ),
    ] {
        assert_eq!(code, wanted, "{case}: {status}");
        assert_eq!(status["reason"], reason, "{case}: {status}");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(says), "{case}: {says:?} is not in {message:?}");
    }
    assert_eq!(kubectl.ok(&["get", "configmap", "here", "-o", "jsonpath={.data.a}"]), "1");
}

#[test]
fn hostile_and_broken_archives_are_refused_and_nothing_is_written() {
    let cluster = Cluster::start("archives");
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let whole = std::fs::read(knarr_e2e::root().join("target/images/busybox.tar")).expect("an image");
    std::fs::write(path("truncated.tar"), &whole[..whole.len() / 2]).expect("writes");
    std::fs::write(path("text.tar"), "not an archive").expect("writes");
    for name in ["truncated.tar", "text.tar", "absent.tar"] {
        let said = cluster.knarr(&["image", "import", &path(name)]).err();
        assert!(said.contains(name), "{said}");
    }
    let before = cluster.knarr(&["image", "ls"]).ok();
    assert!(!before.contains("busybox"), "{before}");
    cluster.import("busybox");
    assert!(cluster.knarr(&["image", "ls"]).ok().contains("busybox"));
}
