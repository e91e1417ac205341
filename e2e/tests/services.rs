//! Three web pods behind a Service, reached in every way there is.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use knarr_e2e::{Cluster, eventually, fetch, run};

/// The pod that answered.
fn pod(page: &str) -> Option<String> {
    page.lines().find_map(|line| line.strip_prefix("<p>pod: ")?.strip_suffix("</p>")).map(str::to_owned)
}

fn deploy(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    kubectl.ok(&["create", "deployment", "hello", "--image=knarr.local/hello", "--replicas=3"]);
    kubectl.ok(&["expose", "deployment", "hello", "--port=80", "--target-port=8080", "--type=NodePort"]);
    kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
}

#[test]
fn a_service_answers_by_name_address_and_port_and_spreads_load() {
    let cluster = Cluster::start("svc");
    cluster.import("busybox");
    deploy(&cluster);
    let kubectl = cluster.kubectl();
    let service = kubectl.json(&["get", "service", "hello"]);
    let address = service["spec"]["clusterIP"].as_str().expect("a ClusterIP").to_owned();
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
    let node = kubectl.json(&["get", "nodes"])["items"][0].clone();
    let node_address = node["status"]["addresses"][0]["address"].as_str().expect("an address").to_owned();

    for url in [
        format!("http://{address}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://{node_address}:{port}/"),
    ] {
        let seen: BTreeSet<String> = eventually(&format!("three pods answer at {url}"), || {
            let pages: Option<Vec<String>> =
                (0..30).map(|_| fetch(&url).and_then(|page| pod(&page))).collect();
            pages.map(BTreeSet::from_iter).filter(|seen| seen.len() == 3)
        });
        assert!(seen.iter().all(|name| name.starts_with("hello-")), "{seen:?}");
    }

    let script = "wget -q -O - http://hello/ && wget -q -O - http://hello.default.svc.cluster.local/path";
    let run =
        ["run", "client", "--image=busybox:1.36", "--image-pull-policy=IfNotPresent", "--restart=Never"];
    kubectl.ok(&[&run[..], &["--", "sh", "-c", script]].concat());
    kubectl.ok(&["wait", "pod/client", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s"]);
    let pages = kubectl.ok(&["logs", "client"]);
    for request in ["GET /\n", "GET /path\n"] {
        assert!(pages.contains(request), "{request:?} is not in {pages}");
    }
}

#[test]
fn a_rolling_update_under_load_loses_no_request() {
    let cluster = Cluster::start("roll");
    deploy(&cluster);
    let kubectl = cluster.kubectl();
    let service = kubectl.json(&["get", "service", "hello"]);
    let url = format!("http://127.0.0.1:{}/", service["spec"]["ports"][0]["nodePort"]);
    eventually("the node port answers", || fetch(&url));

    let script = format!(
        "ok=0; bad=0; while read -t 0 line; [ $? -ne 0 ]; do if curl -sf --max-time 10 -o /dev/null {url}; then ok=$((ok+1)); else bad=$((bad+1)); fi; done; echo $ok $bad"
    );
    let mut load = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash");
    for round in ["ROUND=2", "ROUND=3", "ROUND=4"] {
        kubectl.ok(&["set", "env", "deployment/hello", round]);
        kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=180s"]);
    }
    // A line on its standard input ends the load.
    use std::io::Write;
    load.stdin.take().expect("piped").write_all(b"stop\n").expect("the load runs");
    let output = load.wait_with_output().expect("the load ends");
    let counts: Vec<u32> = String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(|n| n.parse().expect("a number"))
        .collect();
    assert!(counts[0] > 20, "hardly any load: {counts:?}");
    assert_eq!(counts[1], 0, "requests were lost: {counts:?}");
}

#[test]
fn a_load_balancer_lets_in_the_clients_of_its_source_ranges_only() {
    let cluster = Cluster::start("balancer");
    let kubectl = cluster.kubectl();
    kubectl.ok(&["create", "deployment", "hello", "--image=knarr.local/hello"]);
    let ports = ["--port=8099", "--target-port=8080", "--type=LoadBalancer"];
    kubectl.ok(&[&["expose", "deployment", "hello"], &ports[..]].concat());
    kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    let address = eventually("the balancer has an address", || {
        let service = kubectl.json(&["get", "service", "hello"]);
        service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned)
    });
    let url = format!("http://{address}:8099/");
    eventually("everyone is let in", || fetch(&url));
    let from = run(Command::new("curl").args([
        "--silent",
        "--fail",
        "--max-time",
        "60",
        "--output",
        "/dev/null",
        "--write-out",
        "%{local_ip}",
        &url,
    ]));
    let from = from.ok();
    let restrict = |range: &str| {
        let patch = format!(r#"{{"spec": {{"loadBalancerSourceRanges": ["{range}"]}}}}"#);
        kubectl.ok(&["patch", "service", "hello", "--patch", &patch]);
    };
    restrict("203.0.113.0/24");
    eventually("this machine is shut out", || fetch(&url).is_none().then_some(()));
    restrict(&format!("{from}/32"));
    eventually("this machine is let in", || fetch(&url));
}
