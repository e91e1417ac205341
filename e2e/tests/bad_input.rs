//! What does not make sense is refused in upstream's words, and the server goes on.

use knarr_e2e::Cluster;
use knarr_e2e::Kubectl;

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
