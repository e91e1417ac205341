//! What a pod is told through files: one directory with every source that a projected volume knows.

use knarr_e2e::{Cluster, eventually};

const SOURCES: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {word: swordfish}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: reader
      image: busybox:1.36
      imagePullPolicy: IfNotPresent
      command: [sleep, '3600']
      volumeMounts: [{name: all, mountPath: /all}]
  volumes:
    - name: all
      projected:
        sources:
          - configMap: {name: settings}
          - secret: {name: password, items: [{key: word, path: secrets/word, mode: 0400}]}
          - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
          - serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 600}
          - clusterTrustBundle:
              signerName: kubernetes.io/kube-apiserver-serving
              labelSelector: {}
              path: server.pem
          - clusterTrustBundle: {name: ours, path: ours.pem}
          - clusterTrustBundle: {name: nowhere, optional: true, path: nowhere.pem}
";

#[test]
fn a_projected_volume_holds_every_source_and_who_to_trust_is_one() {
    let cluster = Cluster::start("volumes");
    cluster.import("busybox");
    let kubectl = cluster.kubectl();
    let root = eventually("the root certificate is published", || {
        let maps = kubectl.json(&["get", "configmaps", "--field-selector=metadata.name=kube-root-ca.crt"]);
        maps["items"][0]["data"]["ca.crt"].as_str().map(str::to_owned)
    });
    let ours = serde_json::json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "ClusterTrustBundle",
        "metadata": {"name": "ours"},
        "spec": {"trustBundle": root},
    });
    kubectl.apply(&ours.to_string());
    kubectl.apply(SOURCES);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/reader", "--timeout=60s"]);
    let file = |path: &str| kubectl.ok(&["exec", "reader", "--", "cat", &format!("/all/{path}")]);
    assert_eq!(file("color"), "blue");
    assert_eq!(file("secrets/word"), "swordfish");
    assert_eq!(file("labels").trim(), r#"app="reader""#);
    assert_eq!(file("token").split('.').count(), 3, "a signed token");
    assert_eq!(file("server.pem").trim(), root.trim(), "by its signer");
    assert_eq!(file("ours.pem").trim(), root.trim(), "by its name");
    assert_eq!(file("nowhere.pem"), "");
}
