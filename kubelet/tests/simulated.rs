//! Pods on a simulated node, against the real API server.

mod support;

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node};
use knarr_api::time::Clock;
use knarr_runtime::cri::ContainerRuntime;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::wait::await_condition;
use serde_json::json;
use support::*;

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_says_so() {
    let world = World::new().await;
    world.create("web", json!({})).await;
    let pod = world.until("web", ready()).await.expect("there");
    let status = pod.status.clone().expect("reported");
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.9.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert!(status.start_time.is_some());
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&pod, kind), "True", "{kind}");
    }
    let main = container(&pod, "main").expect("reported");
    assert_eq!((main.ready, main.started, main.restart_count), (true, Some(true), 0));
    assert!(main.container_id.as_deref().is_some_and(|id| id.starts_with("sim://")));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_starts_at_once_costs_the_api_one_write() {
    let world = World::new().await;
    let made = world.create("web", json!({})).await;
    let version = made.metadata.resource_version.expect("stored");
    let here = WatchParams::default().fields("metadata.name=web");
    let mut changes = world.pods().watch(&here, &version).await.expect("watched").boxed();
    let mut writes = 0;
    while let Some(change) = changes.next().await {
        let WatchEvent::Modified(pod) = change.expect("read") else { continue };
        writes += 1;
        if condition(&pod, "Ready") == "True" {
            break;
        }
    }
    assert_eq!(writes, 1);
}

#[tokio::test(start_paused = true)]
async fn the_node_registers_and_renews_its_lease() {
    let world = World::new().await;
    let nodes: Api<Node> = Api::all(world.server.client());
    let is_ready = |node: Option<&Node>| {
        let conditions = node.and_then(|n| n.status.as_ref()?.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let seen = await_condition(nodes.clone(), NODE, is_ready).await.expect("watched").expect("there");
    let labels = seen.metadata.labels.expect("labelled");
    assert_eq!(labels["kubernetes.io/hostname"], NODE);
    assert_eq!(labels["kubernetes.io/os"], "linux");
    let status = seen.status.expect("reported");
    assert_eq!(status.capacity.expect("told")["cpu"].0, "2");
    assert_eq!(
        status.node_info.expect("told").container_runtime_version,
        format!("sim://{}", env!("CARGO_PKG_VERSION"))
    );
    let leases: Api<Lease> = Api::namespaced(world.server.client(), "kube-node-lease");
    let renewed = |lease: Option<&Lease>| {
        let spec = lease.and_then(|l| l.spec.as_ref());
        spec.is_some_and(|s| {
            s.holder_identity.as_deref() == Some(NODE) && s.lease_duration_seconds == Some(40)
        })
    };
    await_condition(leases.clone(), NODE, renewed).await.expect("watched");
    let first = leases.get(NODE).await.expect("there").spec.and_then(|s| s.renew_time).expect("renewed");
    let later = move |lease: Option<&Lease>| {
        lease.and_then(|l| l.spec.as_ref()?.renew_time.clone()).is_some_and(|at| at.0 > first.0)
    };
    await_condition(leases, NODE, later).await.expect("renewed again");
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_one_after_the_other_before_the_rest() {
    let world = World::new().await;
    let init = |name: &str| json!({"name": name, "image": "init:1"});
    let spec = json!({"initContainers": [init("first"), init("second")]});
    world.create("web", spec).await;
    let running = |name: &'static str| {
        is(move |pod| {
            container(pod, name).and_then(|c| c.state.as_ref()).is_some_and(|state| state.running.is_some())
        })
    };
    let pod = world.until("web", running("first")).await.expect("there");
    assert_eq!(waiting(&pod, "main"), "PodInitializing");
    assert_eq!(waiting(&pod, "second"), "PodInitializing");
    assert_eq!(condition(&pod, "Initialized"), "False");
    world.runtime.finish(&id(&pod, "first"), 0).expect("runs");
    let pod = world.until("web", running("second")).await.expect("there");
    world.runtime.finish(&id(&pod, "second"), 0).expect("runs");
    let pod = world.until("web", ready()).await.expect("there");
    assert!(container(&pod, "first").expect("reported").ready, "a finished init container counts as ready");
}

#[tokio::test(start_paused = true)]
async fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let world = World::new().await;
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "first", "image": "init:1"}]});
    world.create("job", spec).await;
    let started = is(|pod| !id(pod, "first").is_empty());
    let pod = world.until("job", started).await.expect("there");
    world.runtime.finish(&id(&pod, "first"), 3).expect("runs");
    let pod = world.until("job", phase("Failed")).await.expect("there");
    let ended = container(&pod, "first").and_then(|c| c.state.as_ref()?.terminated.clone()).expect("ended");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (3, Some("Error")));
    assert!(id(&pod, "main").is_empty(), "the pod's own container never ran");
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_starts_first_and_does_not_keep_a_job_alive() {
    let world = World::new().await;
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "side", "image": "side:1", "restartPolicy": "Always"}],
    });
    world.create("job", spec).await;
    let pod = world.until("job", phase("Running")).await.expect("there");
    world.runtime.finish(&id(&pod, "main"), 0).expect("runs");
    let pod = world.until("job", phase("Succeeded")).await.expect("there");
    assert_eq!(condition(&pod, "Ready"), "False");
}

#[tokio::test(start_paused = true)]
async fn a_finished_pod_succeeds_and_is_not_started_again() {
    let world = World::new().await;
    let spec = json!({"restartPolicy": "OnFailure", "annotations": {"sim.knarr.io/run-seconds": "30"}});
    world.create("job", spec).await;
    let pod = world.until("job", phase("Succeeded")).await.expect("there");
    let main = container(&pod, "main").expect("reported");
    assert_eq!(main.restart_count, 0);
    let ended = main.state.as_ref().and_then(|s| s.terminated.as_ref()).expect("ended");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
    let lasted = ended
        .finished_at
        .as_ref()
        .expect("told")
        .0
        .duration_since(ended.started_at.as_ref().expect("told").0);
    assert_eq!(lasted.as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_waits_longer_each_time() {
    let world = World::new().await;
    let spec = json!({"annotations": {"sim.knarr.io/run-seconds": "1,2"}});
    world.create("web", spec).await;
    let crashing = is(|pod| waiting(pod, "main") == "CrashLoopBackOff");
    let pod = world.until("web", crashing).await.expect("there");
    assert_eq!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Running"));
    let restarts = |count| is(move |pod| container(pod, "main").is_some_and(|c| c.restart_count >= count));
    let pod = world.until("web", restarts(5)).await.expect("there");
    let last =
        container(&pod, "main").and_then(|c| c.last_state.as_ref()?.terminated.clone()).expect("ended");
    assert_eq!((last.exit_code, last.reason.as_deref()), (2, Some("Error")));
    // The last of them ended after 0 + 10 + 20 + 40 seconds of waiting, and five runs of one second.
    let age = last
        .finished_at
        .expect("told")
        .0
        .duration_since(pod.status.expect("told").start_time.expect("told").0);
    assert!((74..=80).contains(&age.as_secs()), "{age}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_pull_shows_its_error_and_then_that_it_waits() {
    let world = World::new().await;
    world.runtime.set_pullable("gone:1", false);
    let spec = json!({"containers": [{"name": "main", "image": "gone:1", "imagePullPolicy": "Always"}]});
    world.create("web", spec).await;
    let message = |pod: &k8s_openapi::api::core::v1::Pod| {
        container(pod, "main").and_then(|c| c.state.as_ref()?.waiting.as_ref()?.message.clone())
    };
    let mut changed = Vec::new();
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"] {
        let pod = world.until("web", is(move |pod| waiting(pod, "main") == reason)).await.expect("there");
        changed.push(world.clock.now().as_second());
        let error = "image gone:1 not found";
        let expected = match reason {
            "ErrImagePull" => error.to_owned(),
            _ => format!("Back-off pulling image \"gone:1\": ErrImagePull: {error}"),
        };
        assert_eq!(message(&pod), Some(expected));
    }
    let lasted: Vec<i64> = changed.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(lasted, [5, 5, 10], "the status's own echo does not cut the error short");
    world.runtime.set_pullable("gone:1", true);
    world.until("web", ready()).await;
}

#[tokio::test(start_paused = true)]
async fn deleting_a_pod_ends_it_and_leaves_nothing() {
    let world = World::new().await;
    world.create("web", json!({})).await;
    world.until("web", ready()).await;
    world.delete("web").await;
    world.until("web", gone()).await;
    let empty = async {
        loop {
            if world.runtime.list_sandboxes().await.expect("simulated").is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.expect("the sandbox is removed");
    assert!(world.runtime.list_containers(None).await.expect("simulated").is_empty());
    assert!(world.runtime.list_pod_cgroups("/kubepods/besteffort").await.expect("simulated").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_keeps_containers_and_counts() {
    let mut world = World::new().await;
    world.create("web", json!({})).await;
    let before = world.until("web", ready()).await.expect("there");
    world.stop().await;
    world.start().await;
    // A change that needs the new agent shows that it has taken over.
    world.create("other", json!({})).await;
    world.until("other", ready()).await;
    let after = world.until("web", ready()).await.expect("there");
    assert_eq!(id(&before, "main"), id(&after, "main"));
    assert_eq!(container(&after, "main").map(|c| c.restart_count), Some(0));
    assert_eq!(before.status.and_then(|s| s.pod_ip), after.status.and_then(|s| s.pod_ip));
}

#[tokio::test(start_paused = true)]
async fn pods_deleted_while_the_agent_was_away_are_removed() {
    let mut world = World::new().await;
    world.create("web", json!({})).await;
    world.until("web", ready()).await;
    world.stop().await;
    let now = kube::api::DeleteParams::default().grace_period(0);
    world.pods().delete("web", &now).await.expect("deleted");
    world.start().await;
    world.create("other", json!({})).await;
    world.until("other", ready()).await;
    let alone = async {
        while world.runtime.list_sandboxes().await.expect("simulated").len() != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, alone).await.expect("the orphan is removed");
}

#[tokio::test(start_paused = true)]
async fn a_pod_the_node_cannot_hold_is_refused() {
    let world = World::new().await;
    let big = json!({"containers": [{
        "name": "main", "image": "app:1", "resources": {"requests": {"cpu": "3"}},
    }]});
    world.create("big", big).await;
    let pod = world.until("big", phase("Failed")).await.expect("there");
    let status = pod.status.expect("reported");
    assert_eq!(status.reason.as_deref(), Some("OutOfcpu"));
    assert_eq!(
        status.message.as_deref(),
        Some(
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_waits_for_its_config_map() {
    let world = World::new().await;
    let spec = json!({"containers": [{
        "name": "main", "image": "app:1", "envFrom": [{"configMapRef": {"name": "settings"}}],
    }]});
    world.create("web", spec).await;
    let stuck = is(|pod| waiting(pod, "main") == "CreateContainerConfigError");
    let pod = world.until("web", stuck).await.expect("there");
    let state = container(&pod, "main").and_then(|c| c.state.as_ref()?.waiting.clone()).expect("waits");
    assert_eq!(state.message.as_deref(), Some("configmap \"settings\" not found"));
    let api: Api<ConfigMap> = Api::namespaced(world.server.client(), "default");
    let mut settings = ConfigMap::default();
    settings.metadata.name = Some("settings".into());
    api.create(&PostParams::default(), &settings).await.expect("created");
    world.until("web", ready()).await;
}

#[tokio::test(start_paused = true)]
async fn an_active_deadline_ends_the_pod() {
    let world = World::new().await;
    world.create("job", json!({"activeDeadlineSeconds": 60})).await;
    let pod = world.until("job", phase("Failed")).await.expect("there");
    let status = pod.status.expect("reported");
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    let ended = status.container_statuses.expect("reported")[0].state.clone().expect("known");
    assert!(ended.terminated.is_some(), "the container has ended");
}

#[tokio::test(start_paused = true)]
async fn events_tell_what_happened() {
    let world = World::new().await;
    world.create("web", json!({})).await;
    world.until("web", ready()).await;
    world.delete("web").await;
    world.until("web", gone()).await;
    let api: Api<Event> = Api::namespaced(world.server.client(), "default");
    let told = async {
        loop {
            let events = api.list(&ListParams::default()).await.expect("listed").items;
            let reasons: Vec<String> = events.into_iter().filter_map(|e| e.reason).collect();
            if ["Pulled", "Created", "Started", "Killing"]
                .iter()
                .all(|r| reasons.iter().any(|have| have == r))
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("all events arrive");
}

fn sized(cpu: &str, policy: &str) -> serde_json::Value {
    json!({"containers": [{
        "name": "main", "image": "app:1",
        "resources": {"requests": {"cpu": cpu}},
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}],
    }]})
}

async fn resize(world: &World, name: &str, cpu: &str) {
    let path = format!("/api/v1/namespaces/default/pods/{name}/resize");
    let patch = json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": cpu}}}]}});
    let request = http::Request::patch(path)
        .header("content-type", "application/strategic-merge-patch+json")
        .body(serde_json::to_vec(&patch).expect("json"))
        .expect("a request");
    world.server.client().request::<serde_json::Value>(request).await.expect("the server takes the resize");
}

/// CPU as the status says it is in force.
fn in_force(pod: &k8s_openapi::api::core::v1::Pod) -> Option<String> {
    let resources = container(pod, "main")?.resources.as_ref()?;
    resources.requests.as_ref()?.get("cpu").map(|quantity| quantity.0.clone())
}

fn pending(pod: &k8s_openapi::api::core::v1::Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|c| c.type_ == "PodResizePending")?.reason.clone()
}

#[tokio::test(start_paused = true)]
async fn a_running_container_gets_more_cpu_in_place() {
    let world = World::new().await;
    world.create("web", sized("500m", "NotRequired")).await;
    let before = world.until("web", ready()).await.expect("there");
    resize(&world, "web", "1").await;
    let done =
        is(|pod| in_force(pod).as_deref() == Some("1") && condition(pod, "PodResizeInProgress").is_empty());
    let after = world.until("web", done).await.expect("there");
    assert_eq!(id(&before, "main"), id(&after, "main"));
    let status = world.runtime.container_status(&id(&after, "main")).await.expect("there");
    assert_eq!(status.resources.expect("set").cpu_shares, 1024);
    assert_eq!(after.status.and_then(|s| s.allocated_resources).expect("told")["cpu"].0, "1");
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_policy_says_so_restarts_to_be_resized() {
    let world = World::new().await;
    world.create("web", sized("500m", "RestartContainer")).await;
    world.until("web", ready()).await;
    resize(&world, "web", "1").await;
    let done = is(|pod| in_force(pod).as_deref() == Some("1") && condition(pod, "Ready") == "True");
    let after = world.until("web", done).await.expect("there");
    assert_eq!(container(&after, "main").map(|c| c.restart_count), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_resize_waits_until_another_pod_makes_room() {
    let world = World::new().await;
    world.create("web", sized("500m", "NotRequired")).await;
    world.create("other", sized("1", "NotRequired")).await;
    world.until("web", ready()).await;
    world.until("other", ready()).await;
    resize(&world, "web", "1500m").await;
    let waits = is(|pod| pending(pod).as_deref() == Some("Deferred"));
    let waiting = world.until("web", waits).await.expect("there");
    assert_eq!(in_force(&waiting).as_deref(), Some("500m"));
    world.delete("other").await;
    let done = is(|pod| in_force(pod).as_deref() == Some("1500m") && pending(pod).is_none());
    world.until("web", done).await;
}

#[tokio::test(start_paused = true)]
async fn one_container_may_restart_all_of_them() {
    let world = World::new().await;
    let rule = json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}});
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [
            {"name": "main", "image": "app:1"},
            {"name": "watcher", "image": "app:1", "restartPolicy": "Never", "restartPolicyRules": [rule]},
        ],
    });
    world.create("web", spec).await;
    let before = world.until("web", ready()).await.expect("there");
    world.runtime.finish(&id(&before, "watcher"), 42).expect("running");
    let counts = |wanted: i32| {
        is(move |pod| {
            let count = |name| container(pod, name).map(|c| c.restart_count);
            count("main") == Some(wanted)
                && count("watcher") == Some(wanted)
                && condition(pod, "Ready") == "True"
        })
    };
    let after = world.until("web", counts(1)).await.expect("there");
    assert_ne!(id(&before, "main"), id(&after, "main"));
    assert_eq!(condition(&after, "AllContainersRestarting"), "False");
    let last = container(&after, "main").and_then(|c| c.last_state.clone()).expect("it ran before");
    assert_eq!(last.terminated.map(|t| t.exit_code), Some(143));
}

#[tokio::test(start_paused = true)]
async fn while_a_pod_ends_the_api_hears_of_each_container_that_has_ended() {
    let world = World::new().await;
    let pre_stop = json!({"preStop": {"sleep": {"seconds": 30}}});
    let spec = json!({"terminationGracePeriodSeconds": 60, "containers": [
        {"name": "main", "image": "app:1", "lifecycle": pre_stop},
        {"name": "other", "image": "app:1"},
    ]});
    world.create("web", spec).await;
    world.until("web", ready()).await;
    world.delete("web").await;
    let half = is(|pod| {
        let state = |name| container(pod, name).and_then(|c| c.state.clone()).unwrap_or_default();
        state("other").terminated.is_some() && state("main").running.is_some()
    });
    let pod = world.until("web", half).await.expect("still there");
    assert_eq!(condition(&pod, "Ready"), "False");
    world.until("web", gone()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_while_its_container_is_being_replaced_has_only_the_time_it_is_given() {
    let world = World::new().await;
    let pre_stop = json!({"preStop": {"sleep": {"seconds": 600}}});
    let main = |image: &str| json!([{"name": "main", "image": image, "lifecycle": pre_stop}]);
    world.create("web", json!({"terminationGracePeriodSeconds": 900, "containers": main("app:1")})).await;
    world.until("web", ready()).await;
    let events: Api<Event> = Api::namespaced(world.server.client(), "default");
    let killing = WatchParams::default().fields("reason=Killing");
    let mut killings = events.watch(&killing, "0").await.expect("watched").boxed();
    let newer = json!({"spec": {"containers": [{"name": "main", "image": "app:2"}]}});
    world.pods().patch("web", &PatchParams::default(), &Patch::Strategic(newer)).await.expect("patched");
    killings.next().await.expect("told").expect("read");
    let deleted = tokio::time::Instant::now();
    world.pods().delete("web", &DeleteParams::default().grace_period(5)).await.expect("deleted");
    world.until("web", gone()).await;
    assert!(deleted.elapsed() < Duration::from_secs(300), "{:?}", deleted.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_whose_manifest_comes_back_while_it_ends_runs_again() {
    let manifests = tempfile::tempdir().expect("a directory");
    let (shown, hidden) = (manifests.path().join("web.yaml"), manifests.path().join(".web.yaml"));
    let pre_stop = json!({"preStop": {"sleep": {"seconds": 20}}});
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "main", "image": "app:1", "lifecycle": pre_stop}]},
    });
    std::fs::write(&shown, manifest.to_string()).expect("written");
    let path = manifests.path().to_owned();
    let world = World::with(Box::new(move |config| config.static_pod_path = Some(path.clone()))).await;
    let name = format!("web-{NODE}");
    let first = world.until(&name, ready()).await.expect("there");
    // Deleting its picture in the API does nothing to the pod.
    world.pods().delete(&name, &DeleteParams::default().grace_period(0)).await.expect("deleted");
    let uid = first.metadata.uid.clone();
    let shown_anew = is(move |pod| condition(pod, "Ready") == "True" && pod.metadata.uid != uid);
    let again = world.until(&name, shown_anew).await.expect("there");
    assert_eq!(id(&first, "main"), id(&again, "main"));
    std::fs::rename(&shown, &hidden).expect("taken away");
    world.until(&name, gone()).await;
    std::fs::rename(&hidden, &shown).expect("given back");
    let another = is(move |pod| condition(pod, "Ready") == "True" && id(pod, "main") != id(&first, "main"));
    world.until(&name, another).await;
    assert_eq!(world.runtime.list_sandboxes().await.expect("simulated").len(), 1, "the first one is gone");
}

#[tokio::test(start_paused = true)]
async fn images_of_a_pods_volumes_are_pulled_side_by_side() {
    let world = World::new().await;
    let takes = Duration::from_secs(1000);
    world.runtime.set_pull_time(takes);
    let volume =
        |name: &str| json!({"name": name, "image": {"reference": "files:1", "pullPolicy": "Always"}});
    let mount = |name: &str| json!({"name": name, "mountPath": format!("/{name}")});
    let begin = tokio::time::Instant::now();
    let main = json!({"name": "main", "image": "app:1", "volumeMounts": [mount("a"), mount("b")]});
    world.create("web", json!({"containers": [main], "volumes": [volume("a"), volume("b")]})).await;
    world.until("web", ready()).await;
    let took = begin.elapsed();
    assert!((takes..takes * 2).contains(&took), "{took:?}");
}
