//! Authentication, authorization and admission, asked from outside.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually, pod};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_has_what_every_cluster_has() {
    let cluster = Cluster::start().await;
    let paths = [
        "/api/v1/namespaces/kube-node-lease",
        "/api/v1/namespaces/default/services/kubernetes",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:controller:deployment-controller",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/roles/system:controller:bootstrap-signer",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all",
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
    ];
    for path in paths {
        let answer = cluster.admin(Method::GET, path, Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    }
    let service = cluster.admin(Method::GET, paths[1], Value::Null).await.ok();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_the_servers_health_and_nothing_else() {
    let cluster = Cluster::start().await;
    let status = async |path: &str, token: Option<&str>| {
        cluster.outside(token, Method::GET, path, Value::Null).await.status
    };
    assert_eq!(status("/livez", None).await, StatusCode::OK);
    assert_eq!(status("/api/v1/namespaces", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("/api/v1/namespaces", Some("nonsense")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("/livez", Some("nonsense")).await, StatusCode::UNAUTHORIZED);
    // A header of an unsigned token, `{"alg":"none"}`, with claims in our issuer's name.
    let unsigned =
        "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMuY2x1c3Rlci5sb2NhbCJ9.";
    assert_eq!(status("/api/v1/namespaces", Some(unsigned)).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_known_by_its_token_until_it_is_gone() {
    let cluster = Cluster::start().await;
    cluster.account("robot").await;
    let issued = cluster.token("robot", json!({"expirationSeconds": 600})).await.ok();
    let token = issued["status"]["token"].as_str().unwrap();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let myself = cluster.outside(Some(token), Method::POST, path, review).await.ok();
    let user = &myself["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );

    let refused =
        cluster.outside(Some(token), Method::GET, "/api/v1/namespaces/default/pods", Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.message(),
        r#"pods is forbidden: User "system:serviceaccount:default:robot" cannot list resource "pods" in API group "" in the namespace "default""#
    );

    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let ask = |audience: &str| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]}})
    };
    let ours = ask("https://kubernetes.default.svc.cluster.local");
    let answer = cluster.admin(Method::POST, path, ours.clone()).await.ok();
    assert_eq!(answer["status"]["authenticated"], true, "{answer}");
    let answer = cluster.admin(Method::POST, path, ask("vault")).await.ok();
    assert_ne!(answer["status"]["authenticated"], true, "{answer}");

    let short = cluster.token("robot", json!({"expirationSeconds": 10})).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        short.message().contains("may not specify a duration less than 10 minutes"),
        "{}",
        short.message()
    );

    cluster.admin(Method::DELETE, "/api/v1/namespaces/default/serviceaccounts/robot", Value::Null).await.ok();
    // Never the same audiences twice: what was good a moment ago is remembered for them.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    eventually("the token of an account that is gone is refused", async || {
        let number = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let audiences = ["https://kubernetes.default.svc.cluster.local".to_owned(), number.to_string()];
        let other = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences}});
        let answer = cluster.admin(Method::POST, path, other).await.ok();
        answer["status"]["authenticated"] != true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_completed_on_their_way_in() {
    let cluster = Cluster::start().await;
    cluster.account("default").await;
    let made = cluster.admin(Method::POST, "/api/v1/namespaces/default/pods", pod("web")).await.ok();
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["serviceAccount"], "default");
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    let volume = &spec["volumes"][0];
    assert!(volume["name"].as_str().unwrap().starts_with("kube-api-access-"));
    assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(mount["name"], volume["name"]);
    let nulls = spec.as_object().unwrap().iter().filter(|(_, value)| value.is_null()).count();
    assert_eq!(nulls, 0, "plugins leave nothing behind where there was nothing: {spec}");

    let missing = cluster.admin(Method::POST, "/api/v1/namespaces/nowhere/pods", pod("web")).await;
    assert_eq!(
        (missing.status, missing.message()),
        (StatusCode::NOT_FOUND, r#"namespaces "nowhere" not found"#)
    );
    let kept = cluster.admin(Method::DELETE, "/api/v1/namespaces/kube-system", Value::Null).await;
    assert_eq!(kept.message(), r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_what_they_do_not_have() {
    let cluster = Cluster::start().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let role = |name: &str, resource: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
            "rules": [{"verbs": ["create"], "apiGroups": ["", "rbac.authorization.k8s.io"], "resources": [resource]}]})
    };
    cluster.admin(Method::POST, roles, role("roles", "roles")).await.ok();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "bob"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "roles"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}]});
    cluster.admin(Method::POST, bindings, binding).await.ok();
    eventually("bob may create roles", async || {
        cluster.user("bob", &[], Method::POST, roles, role("same", "roles")).await.status
            != StatusCode::FORBIDDEN
    })
    .await;
    let refused = cluster.user("bob", &[], Method::POST, roles, role("more", "secrets")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let expected = "is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"create\"]}";
    assert!(refused.message().contains(expected), "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reaches_its_own_objects_only() {
    let cluster = Cluster::start().await;
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let as_node = async |name: &str, method, path: &str, object| {
        cluster.user(&format!("system:node:{name}"), &["system:nodes"], method, path, object).await
    };
    let made = as_node("n1", Method::POST, "/api/v1/nodes", node("n1")).await.ok();
    assert_eq!(
        made["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
    let other = as_node("n1", Method::POST, "/api/v1/nodes", node("n2")).await;
    assert_eq!(other.message(), r#"nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2""#);
    assert_eq!(as_node("n1", Method::GET, "/api/v1/nodes/n1", Value::Null).await.status, StatusCode::OK);

    cluster.account("default").await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    cluster.admin(Method::POST, "/api/v1/namespaces/default/secrets", secret).await.ok();
    let mut user = pod("user");
    user["spec"]["nodeName"] = "n1".into();
    user["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "s"}}]);
    cluster.admin(Method::POST, "/api/v1/namespaces/default/pods", user).await.ok();
    eventually("n1 may read its pod's secret", async || {
        as_node("n1", Method::GET, "/api/v1/namespaces/default/secrets/s", Value::Null).await.status
            == StatusCode::OK
    })
    .await;
    let refused = as_node("n2", Method::GET, "/api/v1/namespaces/default/secrets/s", Value::Null).await;
    assert!(
        refused.message().ends_with("no relationship found between node 'n2' and this object"),
        "{}",
        refused.message()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn access_reviews_answer_as_requests_would_be_decided() {
    let cluster = Cluster::start().await;
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let ask = async |user: &str, groups: Value| {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": user, "groups": groups,
            "resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
        cluster.admin(Method::POST, path, review).await.ok()["status"]["allowed"] == true
    };
    assert!(ask("x", json!(["system:masters"])).await);
    assert!(!ask("x", json!([])).await);
    eventually("the scheduler's bootstrap role counts", async || {
        ask("system:kube-scheduler", json!([])).await
    })
    .await;

    let invalid = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "x"}});
    let refused = cluster.admin(Method::POST, path, invalid).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespaces_labels_decide_what_its_pods_may_ask() {
    let cluster = Cluster::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict",
        "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    cluster.admin(Method::POST, "/api/v1/namespaces", namespace).await.ok();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    cluster.admin(Method::POST, "/api/v1/namespaces/strict/serviceaccounts", account).await.ok();
    let mut privileged = pod("p");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let refused = cluster.admin(Method::POST, "/api/v1/namespaces/strict/pods", privileged).await;
    assert_eq!(
        refused.message(),
        r#"pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)"#
    );
    cluster.admin(Method::POST, "/api/v1/namespaces/strict/pods", pod("plain")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_spent_once_however_many_ask_at_the_same_time() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/resourcequotas";
    let hard = json!({"count/configmaps": "3"});
    let mut quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}});
    cluster.admin(Method::POST, path, quota.clone()).await.ok();
    // The controller's part: what is limited, and that nothing is used yet.
    quota["status"] = json!({"hard": hard, "used": {"count/configmaps": "0"}});
    cluster.admin(Method::PUT, &format!("{path}/few/status"), quota).await.ok();
    eventually("the quota is known to be counted", async || {
        let seen =
            cluster.admin(Method::GET, &format!("{path}/few?resourceVersion=0"), Value::Null).await.body;
        seen["status"]["used"]["count/configmaps"] == "0"
    })
    .await;
    let create = async |number: usize| {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{number}")}});
        cluster.admin(Method::POST, "/api/v1/namespaces/default/configmaps", object).await
    };
    let answers = futures::future::join_all((0..8).map(create)).await;
    let made = answers.iter().filter(|answer| answer.status.is_success()).count();
    assert_eq!(made, 3);
    let refused = answers.iter().find(|answer| !answer.status.is_success()).unwrap();
    let why = "exceeded quota: few, requested: count/configmaps=1, used: count/configmaps=3, limited: count/configmaps=3";
    assert!(refused.message().ends_with(why), "{}", refused.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_secret_is_good_as_long_as_the_secret_holds_it() {
    use base64::Engine;
    let cluster = Cluster::start().await;
    cluster.account("robot").await;
    let account = cluster
        .admin(Method::GET, "/api/v1/namespaces/default/serviceaccounts/robot", Value::Null)
        .await
        .ok();
    let uid = account["metadata"]["uid"].as_str().unwrap();
    let claims = json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:robot",
        "kubernetes.io/serviceaccount/namespace": "default", "kubernetes.io/serviceaccount/secret.name": "robot-token",
        "kubernetes.io/serviceaccount/service-account.name": "robot",
        "kubernetes.io/serviceaccount/service-account.uid": uid});
    let token = cluster.pki.service_accounts.sign(&claims).unwrap();
    let ask = async || cluster.outside(Some(&token), Method::GET, "/api/v1/namespaces", Value::Null).await;
    assert_eq!(ask().await.status, StatusCode::UNAUTHORIZED, "no secret holds it");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "data": {"token": base64::engine::general_purpose::STANDARD.encode(&token)}});
    cluster.admin(Method::POST, "/api/v1/namespaces/default/secrets", secret).await.ok();
    let known = ask().await;
    assert_eq!(known.status, StatusCode::FORBIDDEN);
    assert!(known.message().contains("system:serviceaccount:default:robot"), "{}", known.message());
}
