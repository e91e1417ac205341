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
        let page = ask(&format!("http://{address}:8080/")).ok();
        assert!(page.contains(&format!("pod: hello-{to}")), "{page}");
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
    }
    let status = cluster.knarr(&["status"]).ok();
    assert!(status.contains(&format!("{} (ready", names[1])), "{status}");

    cluster.knarr(&["delete"]).ok();
    let links = run(Command::new("ip").args(["-o", "addr"])).ok();
    let address = &nodes[1].1;
    let range = &address[..address.rfind('.').expect("an IPv4 address") + 1];
    assert!(!links.contains(&format!("inet {range}")), "the nodes' link is left: {links}");
    let namespaces = run(Command::new("ls").arg("/run/netns")).stdout;
    assert!(!namespaces.contains(&cluster.name), "a namespace is left: {namespaces}");
    assert!(!cluster.data_dir().exists(), "the data directory is left");
    let tables = run(Command::new("nft").args(["list", "tables"])).ok();
    assert!(!tables.contains(&cluster.name), "{tables}");
}
