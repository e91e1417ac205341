//! Several nodes on one machine: real joins, routes and namespaces, seen with the stock kubectl.

use std::process::Command;

use knarr_e2e::{Cluster, Kubectl, eventually, fetch, run};

/// A web pod and a pod to ask from on each node, and a Service over both web pods.
fn manifest(nodes: &[String]) -> String {
    let pods = nodes.iter().enumerate().map(|(number, node)| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: hello-{number}, labels: {{app: hello}}}}\n\
             spec:\n  nodeName: {node}\n  containers: [{{name: hello, image: knarr.local/hello}}]\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: client-{number}}}\n\
             spec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
             - {{name: client, image: 'busybox:1.36', imagePullPolicy: IfNotPresent,\n      \
             command: [sh, -c, 'echo started on {node}; sleep 1000']}}\n---\n"
        )
    });
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: hello}\nspec:\n  type: NodePort\n  \
                   selector: {app: hello}\n  ports: [{port: 80, targetPort: 8080}]\n";
    pods.collect::<String>() + service
}

fn nodes(kubectl: &Kubectl) -> Vec<(String, String)> {
    let items = kubectl.json(&["get", "nodes"])["items"].as_array().expect("nodes").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let mut nodes: Vec<_> = items
        .iter()
        .map(|node| (text(&node["metadata"]["name"]), text(&node["status"]["addresses"][0]["address"])))
        .collect();
    nodes.sort();
    nodes
}

#[test]
fn pods_on_two_nodes_reach_each_other_in_every_way_and_delete_leaves_nothing() {
    let cluster = Cluster::prepare("nodes");
    cluster.up_with(&["--nodes", "2"]).ok();
    cluster.import("busybox");
    let kubectl = cluster.kubectl();
    let nodes = nodes(&kubectl);
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    kubectl.ok(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
    let names: Vec<String> = nodes.iter().map(|(name, _)| name.clone()).collect();
    kubectl.apply(&manifest(&names));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s"]);

    for (from, to) in [(0, 1), (1, 0)] {
        let pod = kubectl.json(&["get", "pod", &format!("hello-{to}")]);
        let address = pod["status"]["podIP"].as_str().expect("a pod address");
        let ask = |url: &str| {
            let client = format!("client-{from}");
            // Debian's static busybox crashes over a time limit of wget's own.
            kubectl.run(&["exec", &client, "--", "timeout", "5", "wget", "-q", "-O", "-", url])
        };
        eventually("the pod's address leads to it", || {
            let answer = ask(&format!("http://{address}:8080/"));
            answer.stdout.contains(&format!("pod: hello-{to}")).then_some(())
        });
        eventually("the Service's name leads to the other node's pod", || {
            let answer = ask("http://hello.default.svc.cluster.local/");
            answer.stdout.contains(&format!("pod: hello-{to}")).then_some(())
        });
        let log = kubectl.ok(&["logs", &format!("client-{from}")]);
        assert_eq!(log, format!("started on {}\n", names[from]));
    }
    let service = kubectl.json(&["get", "service", "hello"]);
    for (_, address) in &nodes {
        let url = format!("http://{address}:{}/", service["spec"]["ports"][0]["nodePort"]);
        eventually(&format!("the node port answers at {url}"), || fetch(&url));
        for (from, _) in nodes.iter().enumerate() {
            let ask =
                ["exec", &format!("client-{from}"), "--", "timeout", "5", "wget", "-q", "-O", "-", &url];
            // Often enough that each node's pod is chosen.
            for _ in 0..10 {
                let answer = kubectl.run(&ask);
                assert!(answer.success, "client-{from} does not reach {url}: {}", answer.stderr);
            }
        }
    }
    let status = cluster.knarr(&["status"]).ok();
    assert!(status.contains(&format!("{} (ready", names[1])), "{status}");

    cluster.knarr(&["delete"]).ok();
    let links = run(Command::new("ip").args(["-o", "addr"])).ok();
    let address = &nodes[1].1;
    let range = &address[..address.rfind('.').expect("an IPv4 address") + 1];
    assert!(!links.contains(&format!("inet {range}")), "the nodes' link is left: {links}");
    let mounts = run(Command::new("findmnt").args(["-rno", "TARGET"])).ok();
    assert!(!mounts.contains(&cluster.name), "a namespace is left: {mounts}");
    assert!(!cluster.data_dir().exists(), "the data directory is left");
    let tables = run(Command::new("nft").args(["list", "tables"])).ok();
    assert!(!tables.contains(&cluster.name), "{tables}");
}

/// One pod that prefers the node and may not stay on it for long once it is lost, one that stays whatever happens.
fn settlers(node: &str) -> String {
    let tolerations = |seconds: &str| {
        let one = |taint: &str| {
            format!("{{key: node.kubernetes.io/{taint}, operator: Exists, effect: NoExecute{seconds}}}")
        };
        format!("[{}, {}]", one("unreachable"), one("not-ready"))
    };
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: mover}}\nspec:\n  replicas: 1\n  \
         selector: {{matchLabels: {{app: mover}}}}\n  template:\n    metadata: {{labels: {{app: mover}}}}\n    spec:\n      \
         tolerations: {}\n      containers: [{{name: hello, image: knarr.local/hello}}]\n      \
         affinity:\n        nodeAffinity:\n          preferredDuringSchedulingIgnoredDuringExecution:\n          \
         - weight: 100\n            preference:\n              matchExpressions:\n              \
         - {{key: kubernetes.io/hostname, operator: In, values: [{node}]}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: stayer}}\nspec:\n  nodeName: {node}\n  tolerations: {}\n  \
         containers: [{{name: hello, image: knarr.local/hello}}]\n",
        tolerations(", tolerationSeconds: 1"),
        tolerations("")
    )
}

fn mover(kubectl: &Kubectl, node: &str) -> Option<String> {
    let pods = kubectl.json(&["get", "pods", "-l", "app=mover"]);
    let ready = |pod: &&serde_json::Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let pods = pods["items"].as_array().expect("pods");
    let found = pods.iter().filter(ready).find(|pod| pod["spec"]["nodeName"] == node)?;
    Some(found["metadata"]["name"].as_str().expect("a name").to_owned())
}

#[test]
fn a_node_whose_agent_dies_is_emptied_and_its_containers_are_found_again_when_it_returns() {
    let cluster = Cluster::prepare("lost");
    cluster.up_with(&["--nodes", "2"]).ok();
    let kubectl = cluster.kubectl();
    let nodes: Vec<String> = nodes(&kubectl).into_iter().map(|(name, _)| name).collect();
    let (first, second) = (&nodes[0], &nodes[1]);
    for node in &nodes {
        eventually("the node takes pods", || takes_pods(&kubectl, node));
    }
    kubectl.apply(&settlers(second));
    kubectl.ok(&["wait", "--for=condition=Available", "deployment/mover", "--timeout=60s"]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/stayer", "--timeout=60s"]);
    let moved = mover(&kubectl, second).expect("the preferred node");
    let container = |kubectl: &Kubectl| {
        let pod = kubectl.json(&["get", "pod", "stayer"]);
        let status = &pod["status"]["containerStatuses"][0];
        (status["containerID"].clone(), status["restartCount"].clone(), status["state"].clone())
    };
    let before = container(&kubectl);
    let address =
        kubectl.json(&["get", "pod", "stayer"])["status"]["podIP"].as_str().expect("an address").to_owned();

    let lock = cluster.data_dir().join("nodes/2/server.lock");
    let agent = std::fs::read_to_string(lock).expect("the agent's lock file");
    run(Command::new("kill").args(["-KILL", agent.trim()])).ok();
    kubectl.ok(&["wait", "--for=condition=Ready=Unknown", &format!("node/{second}"), "--timeout=120s"]);
    let lost = kubectl.json(&["get", "node", second]);
    let conditions = lost["status"]["conditions"].as_array().expect("conditions");
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").expect("Ready");
    assert_eq!(ready["reason"], "NodeStatusUnknown", "{ready}");
    assert_eq!(ready["message"], "Kubelet stopped posting node status.");
    let replacement = eventually("a pod takes its place elsewhere", || mover(&kubectl, first));
    assert_ne!(replacement, moved);
    let old = kubectl.json(&["get", "pod", &moved]);
    assert!(old["metadata"]["deletionTimestamp"].is_string(), "{old}");
    assert!(fetch(&format!("http://{address}:8080/")).is_some(), "the container went with the agent");

    cluster.up().ok();
    kubectl.ok(&["wait", "--for=condition=Ready", &format!("node/{second}"), "--timeout=60s"]);
    kubectl.ok(&["wait", "--for=delete", &format!("pod/{moved}"), "--timeout=60s"]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/stayer", "--timeout=60s"]);
    assert_eq!(container(&kubectl), before, "the container was started again");
    eventually("the node's taints are taken off", || takes_pods(&kubectl, second));
}

fn takes_pods(kubectl: &Kubectl, node: &str) -> Option<()> {
    kubectl.json(&["get", "node", node])["spec"]["taints"].is_null().then_some(())
}
