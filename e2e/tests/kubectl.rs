//! The verbs of the stock kubectl, in all versions that must work.

use knarr_e2e::{Cluster, KUBECTLS, Kubectl, eventually, root};

#[test]
fn every_supported_kubectl_can_drive_a_workload() {
    let cluster = Cluster::start("verbs");
    cluster.import("busybox");
    for version in KUBECTLS {
        let name = format!("web-{}", version.replace('.', "-"));
        drive(&cluster.kubectl_version(version), &name);
    }
}

fn drive(kubectl: &Kubectl, name: &str) {
    let object = format!("deployment/{name}");
    assert!(kubectl.ok(&["get", "nodes", "-o", "wide"]).contains("Ready"));
    assert!(kubectl.ok(&["version"]).contains("Server Version: v1.37.0+knarr"));
    assert!(kubectl.ok(&["cluster-info"]).contains("is running at"));
    assert!(kubectl.ok(&["api-resources"]).contains("deployments"));
    assert!(kubectl.ok(&["explain", "deployment.spec.strategy"]).contains("rollingUpdate"));

    let busybox = [
        "--image=busybox:1.36",
        "--replicas=2",
        "--",
        "sh",
        "-c",
        "trap exit TERM; echo started; while :; do sleep 1; done",
    ];
    kubectl.ok(&[&["create", "deployment", name][..], &busybox[..]].concat());
    kubectl.ok(&["rollout", "status", &object, "--timeout=120s"]);
    assert!(kubectl.ok(&["get", "all"]).contains(&object.replace('/', ".apps/")));
    let described = kubectl.ok(&["describe", &object]);
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    assert_eq!(managers(kubectl, &["get", &object]), ["kube-controller-manager", "kubectl-create"]);
    let pods = ["get", "pods", "-l", &format!("app={name}")];
    assert_eq!(managers(kubectl, &pods), ["kube-controller-manager", "kubelet"]);
    // A container runs before its program has printed anything.
    eventually("the log has a line", || kubectl.ok(&["logs", &object]).contains("started").then_some(()));
    assert_eq!(kubectl.ok(&["exec", &object, "--", "echo", "inside"]).trim(), "inside");

    kubectl.ok(&["scale", &object, "--replicas=1"]);
    kubectl.ok(&["label", &object, "tier=front"]);
    kubectl.ok(&["annotate", &object, "kubernetes.io/change-cause=first"]);
    assert!(kubectl.ok(&["get", "deployments", "-l", "tier=front", "-o", "name"]).contains(name));
    kubectl.ok(&["expose", &object, "--port=80"]);
    kubectl.ok(&["set", "image", &object, "busybox=busybox:latest"]);
    kubectl.ok(&["patch", &object, "-p", r#"{"spec":{"template":{"spec":{"containers":[{"name":"busybox","imagePullPolicy":"IfNotPresent"}]}}}}"#]);
    kubectl.ok(&["rollout", "status", &object, "--timeout=120s"]);
    assert!(kubectl.ok(&["rollout", "history", &object]).contains("REVISION"));
    kubectl.ok(&["rollout", "undo", &object]);
    kubectl.ok(&["rollout", "status", &object, "--timeout=120s"]);
    kubectl.ok(&["rollout", "restart", &object]);
    kubectl.ok(&["rollout", "status", &object, "--timeout=120s"]);
    assert!(kubectl.ok(&["events"]).contains("ScalingReplicaSet"));
    kubectl.ok(&["wait", "--for=condition=Available", &object, "--timeout=60s"]);
    kubectl.ok(&["delete", &object, &format!("service/{name}"), "--timeout=120s"]);
    kubectl.ok(&["wait", "--for=delete", "pod", "-l", &format!("app={name}"), "--timeout=120s"]);
}

/// Who wrote fields of the object, or of the first of several, by name.
fn managers(kubectl: &Kubectl, get: &[&str]) -> Vec<String> {
    let found = kubectl.json(&[get, &["--show-managed-fields"]].concat());
    let object = found["items"].get(0).unwrap_or(&found);
    let entries = object["metadata"]["managedFields"].as_array().expect("entries");
    let names = entries.iter().map(|entry| entry["manager"].as_str().expect("a name").to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn diff_and_apply_agree_on_a_file_of_several_documents() {
    let cluster = Cluster::start("apply");
    let kubectl = cluster.kubectl();
    let file = root().join("manifests/samples/hello.yaml").display().to_string();
    assert_eq!(kubectl.run(&["diff", "-f", &file]).code, Some(1), "there is something to create");
    let applied = kubectl.ok(&["apply", "-f", &file]);
    assert!(
        applied.contains("deployment.apps/hello created") && applied.contains("service/hello created"),
        "{applied}"
    );
    kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    assert_eq!(kubectl.run(&["diff", "-f", &file]).code, Some(0), "nothing is left to change");
    assert!(kubectl.ok(&["apply", "-f", &file]).contains("deployment.apps/hello unchanged"));
    assert!(
        kubectl
            .ok(&["apply", "--server-side", "--force-conflicts", "-f", &file])
            .contains("serverside-applied")
    );
    kubectl.ok(&["delete", "-f", &file, "--timeout=120s"]);
}
