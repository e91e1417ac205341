//! Volumes of a storage driver, from its registration to their end.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Node as NodeObject, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, VolumeAttachment};
use knarr_kubelet::csi::proto::{Mode, NodePublishVolumeRequest};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::driver::{self, Call, Driver, NAME};
use crate::node::{NODE, Node, PATIENCE};
use crate::{log, phase, ready};

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

fn root(node: &Node) -> PathBuf {
    node.directory.path().join("kubelet")
}

fn start(node: &Node) -> Driver {
    Driver::start(&root(node), &node.directory.path().join("driver"))
}

async fn create<K>(api: Api<K>, object: Value) -> K
where
    K: serde::de::DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).expect("an object of this kind");
    api.create(&PostParams::default(), &object).await.expect("the server takes it")
}

async fn cluster_wide<K>(node: &Node, name: &str, test: impl Fn(&K) -> bool) -> K
where
    K: kube::Resource<DynamicType = ()>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + 'static,
{
    let api = Api::<K>::all(node.server.client());
    let condition = move |object: Option<&K>| object.is_some_and(&test);
    match tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
        Ok(seen) => seen.expect("the server can be watched").expect("there"),
        Err(_) => panic!("{name} never became as wanted: {:#?}", api.get_opt(name).await),
    }
}

/// What the cluster says of the driver.
async fn describe(node: &Node, spec: Value) {
    let object = json!({"metadata": {"name": NAME}, "spec": spec});
    create(Api::<CSIDriver>::all(node.server.client()), object).await;
}

/// A volume of the driver, and a claim bound to it.
async fn bound(node: &Node, name: &str, mode: &str) {
    let client = node.server.client();
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), "default");
    let common = json!({"accessModes": ["ReadWriteOnce"], "volumeMode": mode, "storageClassName": ""});
    let mut claim = common.clone();
    claim["volumeName"] = json!(name);
    claim["resources"] = json!({"requests": {"storage": "1Gi"}});
    let claim = create(claims.clone(), json!({"metadata": {"name": name}, "spec": claim})).await;
    let mut volume = common;
    volume["capacity"] = json!({"storage": "1Gi"});
    volume["csi"] = json!({"driver": NAME, "volumeHandle": name, "fsType": "ext4", "volumeAttributes": {"colour": "blue"}});
    volume["claimRef"] = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "default",
        "name": name, "uid": claim.metadata.uid});
    let volumes = Api::<PersistentVolume>::all(client);
    create(volumes, json!({"metadata": {"name": name}, "spec": volume})).await;
    let bound = Patch::Merge(json!({"status": {"phase": "Bound"}}));
    claims.patch_status(name, &PatchParams::default(), &bound).await.expect("the claim is bound");
}

async fn delete(node: &Node, pod: &str) {
    node.pods().delete(pod, &DeleteParams::default()).await.expect("deleted");
    node.until(pod, |pod: Option<&Pod>| pod.is_none()).await;
}

fn published<'a>(calls: &'a [Call], prefix: &str) -> &'a NodePublishVolumeRequest {
    let found = calls.iter().find_map(|call| match call {
        Call::Publish(request) if request.volume_id.starts_with(prefix) => Some(request),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no volume {prefix} was published: {calls:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_is_known_while_its_socket_is_there() {
    let node = Node::new().await;
    let empty = cluster_wide::<CSINode>(&node, NODE, |_| true).await;
    assert!(empty.spec.drivers.is_empty());
    let mut driver = start(&node);
    driver.until(&["registered true"]).await;
    let known = cluster_wide::<CSINode>(&node, NODE, |found| !found.spec.drivers.is_empty()).await;
    let found = &known.spec.drivers[0];
    assert_eq!((found.name.as_str(), found.node_id.as_str()), (NAME, "node-id"));
    assert_eq!(found.topology_keys.as_deref(), Some(&["topology.example.com/zone".to_owned()][..]));
    assert_eq!(found.allocatable.as_ref().and_then(|allocatable| allocatable.count), Some(7));
    let object = cluster_wide::<NodeObject>(&node, NODE, |_| true).await.metadata;
    let ids = &object.annotations.as_ref().expect("annotated")["csi.volume.kubernetes.io/nodeid"];
    assert_eq!(ids, &format!("{{\"{NAME}\":\"node-id\"}}"));
    assert_eq!(object.labels.expect("labelled")["topology.example.com/zone"], "near");
    drop(driver);
    cluster_wide::<CSINode>(&node, NODE, |found| found.spec.drivers.is_empty()).await;
    let annotation = "csi.volume.kubernetes.io/nodeid";
    cluster_wide::<NodeObject>(&node, NODE, |node| {
        node.metadata.annotations.as_ref().is_none_or(|all| !all.contains_key(annotation))
    })
    .await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_claims_and_of_pods_are_mounted_and_taken_away() {
    let mut node = Node::new().await;
    let mut driver = start(&node);
    driver.until(&["registered true"]).await;
    describe(
        &node,
        json!({"attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File",
        "volumeLifecycleModes": ["Persistent", "Ephemeral"]}),
    )
    .await;
    bound(&node, "data", "Filesystem").await;
    let volumes = json!([
        {"name": "claimed", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "own", "csi": {"driver": NAME, "volumeAttributes": {"size": "small"}}},
    ]);
    let more = json!({"volumes": volumes, "securityContext": {"fsGroup": 4242}});
    let container = json!({"volumeMounts": [
        {"name": "claimed", "mountPath": "/claimed"}, {"name": "own", "mountPath": "/own"},
    ]});
    let script = format!("cat /claimed/name; stat -c %g /claimed/name; wc -l < /own/name; {SLEEP}");
    node.create("web", &script, container.clone(), more).await;
    node.until("web", ready()).await;
    assert_eq!(log(&node, "web").await, "data\n4242\n1\n");
    let calls = driver.until(&["stage data", "publish data"]).await;
    let claimed = published(&calls, "data");
    let staging = root(&node).join("plugins/kubernetes.io/csi").join(NAME);
    assert!(claimed.staging_target_path.starts_with(&*staging.to_string_lossy()), "{claimed:?}");
    assert!(claimed.target_path.ends_with("/volumes/kubernetes.io~csi/data/mount"), "{claimed:?}");
    assert_eq!(driver::mode(claimed), Some(Mode::SingleNodeMultiWriter));
    let info = |ephemeral| {
        [
            ("csi.storage.k8s.io/pod.name", "web"),
            ("csi.storage.k8s.io/pod.namespace", "default"),
            ("csi.storage.k8s.io/serviceAccount.name", ""),
            ("csi.storage.k8s.io/ephemeral", ephemeral),
        ]
    };
    assert_eq!(driver::context(claimed), info("false").into_iter().chain([("colour", "blue")]).collect());
    let own = published(&calls, "csi-");
    assert_eq!(driver::context(own), info("true").into_iter().chain([("size", "small")]).collect());
    assert_eq!((own.staging_target_path.as_str(), own.volume_id.len()), ("", "csi-".len() + 64));

    // Another pod of the claim, and another agent: what is staged is so until both pods are gone.
    let claim_only =
        json!({"volumes": [{"name": "claimed", "persistentVolumeClaim": {"claimName": "data"}}]});
    let mounts = json!({"volumeMounts": [{"name": "claimed", "mountPath": "/claimed"}]});
    node.create("other", SLEEP, mounts, claim_only).await;
    node.until("other", ready()).await;
    delete(&node, "other").await;
    driver.until(&["publish data", "unpublish data"]).await;
    node.stop().await;
    node.start().await;
    driver.until(&["registered true", "unpublish data", "registered true"]).await;
    let own_id = own.volume_id.clone();
    delete(&node, "web").await;
    let after = ["unpublish data", "registered true", "unpublish data", "unstage data"];
    driver.until(&after).await;
    driver.until(&[&format!("unpublish {own_id}")]).await;
    assert_eq!(driver.count("unstage data"), 1);
    drop(driver);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_mounted_when_it_is_attached_and_in_use_until_it_is_gone() {
    let node = Node::new().await;
    let mut driver = start(&node);
    driver.until(&["registered true"]).await;
    bound(&node, "disk", "Filesystem").await;
    let more = json!({"volumes": [{"name": "claimed", "persistentVolumeClaim": {"claimName": "disk"}}]});
    let mounts = json!({"volumeMounts": [{"name": "claimed", "mountPath": "/claimed"}]});
    node.create("web", SLEEP, mounts, more).await;
    let name = format!("kubernetes.io/csi/{NAME}^disk");
    let in_use = |node: &NodeObject| {
        node.status.as_ref().and_then(|status| status.volumes_in_use.clone()).unwrap_or_default()
    };
    cluster_wide::<NodeObject>(&node, NODE, |node| in_use(node) == [name.clone()]).await;
    assert_eq!(driver.count("stage disk"), 0);
    // As the attach-detach controller and the driver's attacher do it.
    let attachment = knarr_kubelet::volumes::csi::attachment_name("disk", NAME, NODE);
    let attachments = Api::<VolumeAttachment>::all(node.server.client());
    let spec = json!({"attacher": NAME, "nodeName": NODE, "source": {"persistentVolumeName": "disk"}});
    create(attachments.clone(), json!({"metadata": {"name": attachment}, "spec": spec})).await;
    let attached = json!({"status": {"attached": true, "attachmentMetadata": {"lun": "3"}}});
    let params = PatchParams::default();
    attachments.patch_status(&attachment, &params, &Patch::Merge(attached)).await.expect("attached");
    let nodes = Api::<NodeObject>::all(node.server.client());
    let says = json!({"status": {"volumesAttached": [{"name": name, "devicePath": ""}]}});
    nodes.patch_status(NODE, &params, &Patch::Merge(says)).await.expect("the node says so");
    node.until("web", ready()).await;
    let calls = driver.until(&["stage disk", "publish disk"]).await;
    assert_eq!(published(&calls, "disk").publish_context["lun"], "3");
    delete(&node, "web").await;
    driver.until(&["unpublish disk", "unstage disk"]).await;
    cluster_wide::<NodeObject>(&node, NODE, |node| in_use(node).is_empty()).await;
    drop(driver);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_a_pod_that_went_unseen_wait_for_their_driver() {
    let mut node = Node::new().await;
    let mut driver = start(&node);
    driver.until(&["registered true"]).await;
    describe(&node, json!({"attachRequired": false, "volumeLifecycleModes": ["Persistent"]})).await;
    bound(&node, "data", "Filesystem").await;
    let more = json!({"volumes": [{"name": "claimed", "persistentVolumeClaim": {"claimName": "data"}}]});
    let mounts = json!({"volumeMounts": [{"name": "claimed", "mountPath": "/claimed"}]});
    node.create("web", SLEEP, mounts, more).await;
    let pod = node.until("web", ready()).await.expect("there");
    drop(driver);
    node.stop().await;
    let now = DeleteParams::default().grace_period(0);
    node.pods().delete("web", &now).await.expect("deleted");
    node.start().await;
    // By then what is left of other pods is gone.
    node.create("job", "exit 0", json!({}), json!({"restartPolicy": "Never"})).await;
    node.until("job", phase("Succeeded")).await;
    let uid = pod.metadata.uid.expect("it has one");
    let target = root(&node).join("pods").join(uid).join("volumes/kubernetes.io~csi/data/mount");
    assert!(target.join("name").exists(), "nobody but the driver takes it away");
    let mut driver = start(&node);
    driver.until(&["registered true", "unpublish data", "unstage data"]).await;
    drop(driver);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_can_be_a_device() {
    let node = Node::new().await;
    let mut driver = start(&node);
    driver.until(&["registered true"]).await;
    describe(&node, json!({"attachRequired": false, "volumeLifecycleModes": ["Persistent"]})).await;
    bound(&node, "device", "Block").await;
    let more = json!({"restartPolicy": "Never",
        "volumes": [{"name": "claimed", "persistentVolumeClaim": {"claimName": "device"}}]});
    let devices = json!({"volumeDevices": [{"name": "claimed", "devicePath": "/dev/given"}]});
    node.create("job", "stat -c %F /dev/given; echo x > /dev/given", devices, more).await;
    node.until("job", phase("Succeeded")).await;
    assert_eq!(log(&node, "job").await, "character special file\n");
    let calls = driver.until(&["stage device", "publish device"]).await;
    let request = published(&calls, "device");
    assert!(request.target_path.contains("/volumeDevices/publish/device/"), "{request:?}");
    delete(&node, "job").await;
    driver.until(&["unpublish device", "unstage device"]).await;
    drop(driver);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_says_that_its_driver_is_missing_and_starts_when_it_comes() {
    let node = Node::new().await;
    describe(&node, json!({"volumeLifecycleModes": ["Ephemeral"]})).await;
    let more = json!({"volumes": [{"name": "own", "csi": {"driver": NAME}}]});
    node.create("web", SLEEP, json!({"volumeMounts": [{"name": "own", "mountPath": "/own"}]}), more).await;
    let wanted = format!(
        "MountVolume.SetUp failed for volume \"own\" : kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: \
         driver name {NAME} not found in the list of registered CSI drivers"
    );
    node.until_event("FailedMount", &wanted).await;
    let mut driver = start(&node);
    driver.until(&["registered true"]).await;
    node.until("web", ready()).await;
    delete(&node, "web").await;
    drop(driver);
    node.end().await;
}
