//! A web server that people know, serving what its ConfigMap says, with its settings from a file of the same map.

use knarr_e2e::{Cluster, eventually, fetch};

const MANIFEST: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: site}
data:
  index.html: first edition
  default.conf: |
    server {
      listen 8081;
      root /site;
      location = /whoami { default_type text/plain; return 200 $hostname; }
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: nginx
          image: nginx:1.22
          imagePullPolicy: IfNotPresent
          ports: [{name: http, containerPort: 8081}]
          readinessProbe: {httpGet: {path: /whoami, port: http}, periodSeconds: 1}
          lifecycle: {preStop: {exec: {command: [nginx, -s, quit]}}}
          volumeMounts:
            - {name: pages, mountPath: /site}
            - {name: settings, mountPath: /etc/nginx/conf.d/default.conf, subPath: default.conf}
      volumes:
        - {name: pages, configMap: {name: site, items: [{key: index.html, path: index.html}]}}
        - {name: settings, configMap: {name: site}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
";

#[test]
fn nginx_serves_a_config_map_and_its_changes() {
    let cluster = Cluster::start("nginx");
    cluster.import("nginx");
    let kubectl = cluster.kubectl();
    kubectl.apply(MANIFEST);
    kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let service = kubectl.json(&["get", "service", "web"]);
    let url = format!("http://127.0.0.1:{}/", service["spec"]["ports"][0]["nodePort"]);
    let page = eventually("the Service leads to the pod", || fetch(&url));
    assert_eq!(page.trim(), "first edition");
    let pods = kubectl.json(&["get", "pods", "-l", "app=web"]);
    let name = pods["items"][0]["metadata"]["name"].as_str().expect("a pod");
    assert_eq!(fetch(&format!("{url}whoami")).as_deref(), Some(name), "the host's name is the pod's");

    kubectl.ok(&["patch", "configmap", "site", "--patch", r#"{"data": {"index.html": "second edition"}}"#]);
    eventually("the new page is served by the old pod", || {
        fetch(&url).filter(|page| page.trim() == "second edition")
    });
    let logs = kubectl.ok(&["logs", "deployment/web"]);
    assert!(!logs.contains("[emerg]"), "{logs}");
    kubectl.ok(&["delete", "deployment", "web", "--timeout=60s"]);
    kubectl.ok(&["wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s"]);
    assert_eq!(fetch(&url), None, "nobody is left to answer");
}
