//! The scheduler against the real API server, on paused time.

use std::sync::Arc;
use std::time::Duration;

use knarr_api::time::{SeededRandom, SharedRandom, SystemClock};
use knarr_testkit::TestServer;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEVICES: &str = "/apis/resource.k8s.io/v1";
const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";

struct Running {
    server: TestServer,
    informers: InformerFactory,
    stop: CancellationToken,
    scheduler: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let server = TestServer::start().await;
        server.bootstrap().await;
        let (client, random): (_, SharedRandom) = (server.client(), Arc::new(SeededRandom::new(1)));
        let (stop, clock) = (CancellationToken::new(), Arc::new(SystemClock));
        let informers = InformerFactory::new(client.clone(), random.clone());
        let (events, sending) =
            EventBroadcaster::new(client.clone(), clock.clone(), random.clone(), stop.clone());
        let scheduler = Scheduler::build(Config::default(), client, &informers, events, clock, random);
        informers.start();
        let shutdown = stop.clone();
        let scheduler = tokio::spawn(async move {
            tokio::join!(scheduler.run(shutdown), sending);
        });
        Self { server, informers, stop, scheduler }
    }

    async fn make(&self, path: &str, object: Value) {
        let answer = self.server.post(path, &object).await;
        assert_eq!(answer.status.as_u16(), 201, "{}", answer.json());
    }

    /// The object as soon as it is as wanted; waits on virtual time.
    async fn when(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut object = Value::Null;
        for _ in 0..600 {
            object = self.server.get(path).await.json();
            if wanted(&object) {
                return object;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path} stays {object}")
    }

    async fn end(self) {
        self.stop.cancel();
        self.informers.stop().await;
        self.scheduler.await.expect("the scheduler ends in peace");
    }

    async fn make_pod_with_claim(&self, name: &str) {
        let exactly = json!({"deviceClassName": "gpu"});
        let devices = json!({"requests": [{"name": "r", "exactly": exactly}]});
        self.make(CLAIMS, json!({"metadata": {"name": name}, "spec": {"devices": devices}})).await;
        let spec = json!({
            "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
        });
        self.make(PODS, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
}

#[tokio::test(start_paused = true)]
async fn claims_get_devices_with_their_pod_and_free_them_for_the_next() {
    let cluster = Running::start().await;
    for name in ["a", "b"] {
        let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "10"});
        let status = json!({"capacity": allocatable, "allocatable": allocatable});
        cluster.make("/api/v1/nodes", json!({"metadata": {"name": name}, "status": status})).await;
    }
    let driver = json!({"cel": {"expression": "device.driver == 'gpu.example.com'"}});
    let class = json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [driver]}});
    cluster.make(&format!("{DEVICES}/deviceclasses"), class).await;
    let pool = json!({"name": "b", "generation": 1, "resourceSliceCount": 1});
    let slice = json!({
        "driver": "gpu.example.com", "pool": pool, "nodeName": "b", "devices": [{"name": "gpu-0"}],
    });
    let slice = json!({"metadata": {"name": "b"}, "spec": slice});
    cluster.make(&format!("{DEVICES}/resourceslices"), slice).await;

    cluster.make_pod_with_claim("first").await;
    let first = cluster.when(&format!("{PODS}/first"), |pod| pod["spec"]["nodeName"].is_string()).await;
    assert_eq!(first["spec"]["nodeName"], "b");
    let claim = cluster.server.get(&format!("{CLAIMS}/first")).await.json();
    assert_eq!(claim["metadata"]["finalizers"], json!(["resource.kubernetes.io/delete-protection"]));
    let result = json!({"request": "r", "driver": "gpu.example.com", "pool": "b", "device": "gpu-0"});
    assert_eq!(claim["status"]["allocation"]["devices"]["results"], json!([result]));
    let user = json!({"resource": "pods", "name": "first", "uid": first["metadata"]["uid"]});
    assert_eq!(claim["status"]["reservedFor"], json!([user]));

    cluster.make_pod_with_claim("second").await;
    let condition = |pod: &Value| pod["status"]["conditions"][0]["message"].as_str().map(str::to_owned);
    let second = cluster.when(&format!("{PODS}/second"), |pod| condition(pod).is_some()).await;
    assert_eq!(
        condition(&second).as_deref(),
        Some(
            "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: \
             0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        )
    );
    let freed = json!({"status": {"allocation": null, "reservedFor": null}});
    let kind = "merge";
    let answer = cluster.server.patch(&format!("{CLAIMS}/first/status"), kind, &freed).await;
    assert!(answer.status.is_success(), "{}", answer.json());
    let second = cluster.when(&format!("{PODS}/second"), |pod| pod["spec"]["nodeName"].is_string()).await;
    assert_eq!(second["spec"]["nodeName"], "b");
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn room_that_was_made_for_a_pod_that_goes_is_for_the_next() {
    let cluster = Running::start().await;
    let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "10"});
    let status = json!({"capacity": allocatable, "allocatable": allocatable});
    cluster.make("/api/v1/nodes", json!({"metadata": {"name": "a"}, "status": status})).await;
    let pod = |name: &str, priority: i32| {
        let resources = json!({"requests": {"cpu": "3"}});
        let container = json!({"name": "c", "image": "i", "resources": resources});
        json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [container]}})
    };
    cluster.make(PODS, pod("victim", 0)).await;
    cluster.when(&format!("{PODS}/victim"), |pod| pod["spec"]["nodeName"] == "a").await;
    let nominated = |pod: &Value| pod["status"]["nominatedNodeName"] == "a";
    cluster.make(PODS, pod("first", 10)).await;
    cluster.when(&format!("{PODS}/first"), nominated).await;
    // Nobody ends the victim here: it stays on its way out.
    cluster.when(&format!("{PODS}/victim"), |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    cluster.make(PODS, pod("second", 10)).await;
    let second = cluster.when(&format!("{PODS}/second"), |pod| pod["status"]["conditions"].is_array()).await;
    assert!(!nominated(&second), "{second}");
    let answer = cluster.server.delete(&format!("{PODS}/first")).await;
    assert!(answer.status.is_success(), "{}", answer.json());
    cluster.when(&format!("{PODS}/second"), nominated).await;
    cluster.end().await;
}
