//! Every sample is applied as it stands, and asked something.

use knarr_e2e::{Cluster, eventually, root};

fn apply(cluster: &Cluster, sample: &str) {
    let file = root().join(format!("manifests/samples/{sample}.yaml")).display().to_string();
    cluster.kubectl().ok(&["apply", "-f", &file]);
}

fn rolled_out(cluster: &Cluster, namespace: &str, deployments: &[&str]) {
    for deployment in deployments {
        let object = format!("deployment/{deployment}");
        cluster.kubectl().ok(&["-n", namespace, "rollout", "status", &object, "--timeout=150s"]);
    }
}

#[test]
fn the_guestbook_remembers_over_the_death_of_its_database() {
    let cluster = Cluster::start("guest");
    cluster.import("busybox");
    cluster.import("redis");
    apply(&cluster, "guestbook");
    rolled_out(&cluster, "guestbook", &["database", "front"]);
    let kubectl = cluster.kubectl();
    let ask = |path: &str| {
        let url = format!("http://front/cgi-bin/{path}");
        kubectl.run(&["-n", "guestbook", "exec", "deployment/front", "--", "wget", "-q", "-O", "-", &url])
    };
    eventually("a visitor is written down", || ask("say?anna").stdout.contains(":1").then_some(()));
    // The database's process ends; its volume does not.
    kubectl.run(&["-n", "guestbook", "exec", "deployment/database", "--", "kill", "1"]);
    let list = eventually("the visitor is still known", || {
        let answer = ask("list");
        answer.stdout.contains("anna").then_some(answer.stdout)
    });
    assert_eq!(list.matches("anna").count(), 1, "{list}");
}

#[test]
fn the_shop_front_asks_its_two_back_ends() {
    let cluster = Cluster::start("shop");
    cluster.import("busybox");
    apply(&cluster, "shop");
    rolled_out(&cluster, "shop", &["catalog", "orders", "storefront"]);
    let kubectl = cluster.kubectl();
    let shell = |script: &str| {
        kubectl.run(&["-n", "shop", "exec", "deployment/storefront", "--", "sh", "-c", script])
    };
    eventually("an order is taken", || {
        let taken = shell("wget -q -O - --post-data='two ropes' http://orders/cgi-bin/orders");
        taken.stdout.contains("two ropes").then_some(())
    });
    let page = eventually("the front page is complete", || {
        let page = shell("wget -q -O - http://storefront/cgi-bin/front").stdout;
        page.contains("two ropes").then_some(page)
    });
    assert!(page.contains("compass"), "{page}");
}
