use futures::FutureExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{
        Endpoints, Event, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Service,
    },
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    storage::v1::{StorageClass, VolumeAttachment, VolumeAttributesClass},
};
use knarr_client::Api;
use knarr_controllers::{Config, LocalStorage, PROVISIONER, STORAGE_PATH};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    deployments::deployment,
    harness::{Cluster, NAMESPACE, NODE, eventually},
};

#[tokio::test(start_paused = true)]
async fn an_attributes_class_stays_while_a_volume_names_it() {
    let cluster = Cluster::start().await;
    for name in ["fast", "unused"] {
        let class = json!({ "metadata": { "name": name }, "driverName": "csi.example.com", "parameters": { "iops": "9" } });
        cluster.create::<VolumeAttributesClass>("", class).await;
    }
    let volume = json!({
        "metadata": { "name": "data" },
        "spec": {
            "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "volumeAttributesClassName": "fast",
            "csi": { "driver": "csi.example.com", "volumeHandle": "data" },
        },
    });
    cluster.create::<PersistentVolume>("", volume).await;
    let classes = Api::<VolumeAttributesClass>::all(cluster.client.clone());
    for name in ["fast", "unused"] {
        let protected = || async {
            let class = classes.get(name).await.unwrap();
            (class.finalizers() == ["kubernetes.io/vac-protection"]).then_some(())
        };
        eventually("the class is protected", protected).await;
        classes.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let gone = |name: &'static str| {
        let classes = classes.clone();
        async move { classes.get_opt(name).await.unwrap().is_none().then_some(()) }
    };
    eventually("nothing names this class", || gone("unused")).await;
    assert!(gone("fast").await.is_none(), "a volume names it");
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    volumes.delete("data", &DeleteParams::default()).await.unwrap();
    eventually("the class goes with its last volume", || gone("fast")).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_the_smallest_volume_and_gives_it_up() {
    let cluster = Cluster::start().await;
    for (name, size) in [("large", "10Gi"), ("small", "2Gi")] {
        let volume = json!({
            "metadata": { "name": name },
            "spec": {
                "capacity": { "storage": size },
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": { "path": "/data" },
            },
        });
        cluster.create::<PersistentVolume>("", volume).await;
    }
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    cluster.create::<PersistentVolumeClaim>(NAMESPACE, claim).await;
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let phase = |name: &'static str| {
        let volumes = volumes.clone();
        async move { volumes.get(name).await.unwrap().status.and_then(|status| status.phase) }
    };
    let bound = eventually("the claim is bound", || async {
        let claim = cluster.api::<PersistentVolumeClaim>().get("data").await.unwrap();
        (claim.status.as_ref()?.phase.as_deref() == Some("Bound")).then_some(claim)
    })
    .await;
    assert_eq!(bound.spec.as_ref().unwrap().volume_name.as_deref(), Some("small"));
    assert_eq!(bound.finalizers(), ["kubernetes.io/pvc-protection"]);
    eventually("so is the volume", || async {
        (phase("small").await.as_deref() == Some("Bound")).then_some(())
    })
    .await;
    eventually("the other is free", || async {
        (phase("large").await.as_deref() == Some("Available")).then_some(())
    })
    .await;
    cluster.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await.unwrap();
    eventually("the volume is released", || async {
        (phase("small").await.as_deref() == Some("Released")).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_says_how_many_pods_may_go() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 4)).await;
    let budget = json!({
        "metadata": { "name": "web" },
        "spec": { "maxUnavailable": "25%", "selector": { "matchLabels": { "app": "web" } } },
    });
    cluster.create::<PodDisruptionBudget>(NAMESPACE, budget).await;
    eventually("one of four may go", || async {
        let status = cluster.api::<PodDisruptionBudget>().get("web").await.unwrap().status?;
        let all = (
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
            status.disruptions_allowed,
        );
        (all == (Some(4), Some(3), Some(4), Some(1))).then_some(())
    })
    .await;
    cluster.stop().await;
}

async fn used(cluster: &Cluster, quota: &str, name: &str) -> Option<String> {
    let quota = cluster.api::<ResourceQuota>().get(quota).await.unwrap();
    Some(quota.status?.used?.get(name)?.0.clone())
}

#[tokio::test(start_paused = true)]
async fn a_quota_says_what_is_used() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(NAMESPACE, deployment("web", 3)).await;
    eventually("there are pods", || async {
        (cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items.len() == 3).then_some(())
    })
    .await;
    let quota = json!({
        "metadata": { "name": "limits" },
        "spec": { "hard": { "pods": "10", "services": "5", "count/deployments.apps": "4", "configmaps": "20" } },
    });
    cluster.create::<ResourceQuota>(NAMESPACE, quota).await;
    let amounts = || async {
        let mut found = Vec::new();
        for name in ["pods", "services", "count/deployments.apps", "configmaps"] {
            found.push(used(&cluster, "limits", name).await);
        }
        found
    };
    let wanted = |amounts: [&str; 4]| amounts.map(|text| Some(text.to_owned())).to_vec();
    eventually("it counts pods and deployments", || async {
        (amounts().await == wanted(["3", "0", "1", "1"])).then_some(())
    })
    .await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    eventually("it counts what is left", || async {
        (amounts().await == wanted(["0", "0", "0", "1"])).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_charge_stays_until_something_goes() {
    let cluster = Cluster::start().await;
    let pod =
        json!({ "metadata": { "name": "one" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    cluster.create::<Pod>(NAMESPACE, pod.clone()).await;
    let quota = |name: &str| json!({ "metadata": { "name": name }, "spec": { "hard": { "pods": "5" } } });
    cluster.create::<ResourceQuota>(NAMESPACE, quota("charged")).await;
    let is = |name: &'static str, amount: &'static str| {
        let cluster = &cluster;
        move || async move { (used(cluster, name, "pods").await.as_deref() == Some(amount)).then_some(()) }
    };
    eventually("the pod is counted", is("charged", "1")).await;

    // As admission does for a pod that it lets in, before the pod exists.
    let charge = json!({ "status": { "used": { "pods": "2" } } });
    let quotas = cluster.api::<ResourceQuota>();
    quotas.patch_status("charged", &PatchParams::default(), &Patch::Merge(charge)).await.unwrap();
    cluster.create::<ResourceQuota>(NAMESPACE, quota("later")).await;
    eventually("the controller has seen the charge and what came after it", is("later", "1")).await;
    assert_eq!(used(&cluster, "charged", "pods").await.as_deref(), Some("2"), "the charge was taken off");

    cluster.api::<Pod>().delete("one", &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually("what goes is counted", is("charged", "0")).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_made_by_hand_are_mirrored() {
    let cluster = Cluster::start().await;
    let service = json!({ "metadata": { "name": "outside" }, "spec": { "ports": [{ "port": 80 }] } });
    cluster.create::<Service>(NAMESPACE, service).await;
    let endpoints = json!({
        "metadata": { "name": "outside" },
        "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }], "ports": [{ "port": 8080 }] }],
    });
    cluster.create::<Endpoints>(NAMESPACE, endpoints).await;
    let slices = || async {
        let all = cluster.api::<EndpointSlice>().list(&ListParams::default()).await.unwrap().items;
        all.into_iter()
            .filter(|slice| slice.labels()["kubernetes.io/service-name"] == "outside")
            .collect::<Vec<_>>()
    };
    eventually("there is a slice", || async {
        let slice = slices().await.pop()?;
        let endpoint = slice.endpoints?.pop()?;
        (endpoint.addresses == ["192.0.2.1"] && slice.ports?[0].port == Some(8080)).then_some(())
    })
    .await;
    cluster.api::<Endpoints>().delete("outside", &DeleteParams::default()).await.unwrap();
    eventually("it goes with them", || async { slices().await.is_empty().then_some(()) }).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_a_directory_of_its_pods_node_which_goes_with_it() {
    let config = Config {
        local_storage: Some(LocalStorage { image: "tool".into(), remove_command: vec!["remove".into()] }),
        ..Config::default()
    };
    let cluster = Cluster::with(config).await;
    let patch = json!({ "metadata": { "annotations": { STORAGE_PATH: "/data/storage" } } });
    let nodes = Api::<Node>::all(cluster.client.clone());
    nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let class = json!({
        "metadata": { "name": "standard" }, "provisioner": PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer",
    });
    cluster.create::<StorageClass>("", class).await;
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "standard",
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    cluster.create::<PersistentVolumeClaim>(NAMESPACE, claim).await;
    let pod = json!({
        "metadata": { "name": "user" },
        "spec": {
            "nodeName": NODE,
            "containers": [{ "name": "main", "image": "app" }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
        },
    });
    cluster.create::<Pod>(NAMESPACE, pod).await;
    let bound = eventually("the claim is bound", || async {
        let claim = cluster.api::<PersistentVolumeClaim>().get("data").await.unwrap();
        (claim.status.as_ref()?.phase.as_deref() == Some("Bound")).then_some(claim)
    })
    .await;
    let name = bound.spec.and_then(|spec| spec.volume_name).unwrap();
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let spec = volumes.get(&name).await.unwrap().spec.unwrap();
    assert_eq!(spec.local.unwrap().path, format!("/data/storage/{name}"));
    assert_eq!(spec.capacity.unwrap()["storage"].0, "1Gi");

    cluster.api::<Pod>().delete("user", &DeleteParams::default()).await.unwrap();
    cluster.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await.unwrap();
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), "kube-system");
    let remover = format!("remove-{name}");
    let pod = eventually("a pod removes the files", || pods.get_opt(&remover).map(Result::unwrap)).await;
    let spec = pod.spec.unwrap();
    assert_eq!(spec.node_name.as_deref(), Some(NODE));
    assert_eq!(
        spec.containers[0].command.as_deref().unwrap(),
        ["remove".to_owned(), format!("/storage/{name}")]
    );
    assert!(volumes.get_opt(&name).await.unwrap().is_some(), "not before its files");
    let done = json!({ "status": { "phase": "Succeeded" } });
    eventually("the pod ends", || async {
        let patch = Patch::Strategic(done.clone());
        pods.patch_status(&remover, &PatchParams::default(), &patch).await.ok()
    })
    .await;
    eventually("the volume is gone", || async {
        volumes.get_opt(&name).await.unwrap().is_none().then_some(())
    })
    .await;
    eventually("so is the pod", || async { pods.get_opt(&remover).await.unwrap().is_none().then_some(()) })
        .await;
    cluster.stop().await;
}

/// A node whose agent leaves attaching to the controller.
async fn managed(cluster: &Cluster, name: &str) {
    let annotation = json!({ "volumes.kubernetes.io/controller-managed-attach-detach": "true" });
    let nodes = Api::<Node>::all(cluster.client.clone());
    if nodes.get_opt(name).await.unwrap().is_none() {
        cluster.create::<Node>("", json!({ "metadata": { "name": name } })).await;
    }
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotation } }));
    nodes.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn node_status(cluster: &Cluster, name: &str, status: serde_json::Value) {
    let nodes = Api::<Node>::all(cluster.client.clone());
    let patch = Patch::Merge(json!({ "status": status }));
    nodes.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

/// The nodes that have attachments of anything.
async fn attached_to(cluster: &Cluster) -> Vec<String> {
    let attachments = Api::<VolumeAttachment>::all(cluster.client.clone());
    let list = attachments.list(&ListParams::default()).await.unwrap();
    list.items.into_iter().map(|attachment| attachment.spec.node_name).collect()
}

async fn says(cluster: &Cluster, reason: &str, text: &str) {
    eventually(text, || async {
        let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap();
        let told =
            |event: &Event| event.reason.as_deref() == Some(reason) && event.message.as_deref() == Some(text);
        events.iter().any(told).then_some(())
    })
    .await;
}

fn using(name: &str, node: &str) -> serde_json::Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": "main", "image": "i" }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_attached_for_its_pods_and_detached_when_its_node_is_done_with_it() {
    let cluster = Cluster::start().await;
    for node in [NODE, "node-2"] {
        managed(&cluster, node).await;
    }
    let modes = json!(["ReadWriteOnce"]);
    let volume = json!({
        "metadata": { "name": "disk" },
        "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": modes, "persistentVolumeReclaimPolicy": "Retain",
            "csi": { "driver": "csi.example.com", "volumeHandle": "handle" },
        },
    });
    cluster.create::<PersistentVolume>("", volume).await;
    let claim = json!({
        "metadata": { "name": "data" },
        "spec": {
            "accessModes": modes, "storageClassName": "", "volumeName": "disk",
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    cluster.create::<PersistentVolumeClaim>(NAMESPACE, claim).await;
    cluster.create::<Pod>(NAMESPACE, using("first", NODE)).await;
    let attachments = Api::<VolumeAttachment>::all(cluster.client.clone());
    let attachment = eventually("an attachment is made", || async {
        attachments.list(&ListParams::default()).await.unwrap().items.pop()
    })
    .await;
    assert_eq!(
        (attachment.spec.attacher.as_str(), attachment.spec.node_name.as_str()),
        ("csi.example.com", NODE)
    );
    let name = attachment.name_any();
    let status = |status| Patch::Merge(json!({ "status": status }));
    let error =
        json!({ "attached": false, "attachError": { "time": "2026-01-01T00:00:00Z", "message": "no slot" } });
    attachments.patch_status(&name, &PatchParams::default(), &status(error)).await.unwrap();
    says(&cluster, "FailedAttachVolume", "AttachVolume.Attach failed for volume \"disk\" : no slot").await;
    let attached = json!({ "attached": true, "attachError": null });
    attachments.patch_status(&name, &PatchParams::default(), &status(attached)).await.unwrap();
    let listed = |node: &'static str| {
        let nodes = Api::<Node>::all(cluster.client.clone());
        async move {
            let status = nodes.get(node).await.unwrap().status.unwrap_or_default();
            let volumes = status.volumes_attached.unwrap_or_default();
            volumes.into_iter().map(|volume| volume.name).collect::<Vec<_>>()
        }
    };
    let unique = "kubernetes.io/csi/csi.example.com^handle";
    eventually("the node's status lists it", || async { (listed(NODE).await == [unique]).then_some(()) })
        .await;
    says(&cluster, "SuccessfulAttachVolume", "AttachVolume.Attach succeeded for volume \"disk\" ").await;
    node_status(&cluster, NODE, json!({ "volumesInUse": [unique] })).await;

    // Another node must wait for it, and hears why.
    cluster.create::<Pod>(NAMESPACE, using("second", "node-2")).await;
    let text = "Multi-Attach error for volume \"disk\" Volume is already used by pod(s) first";
    says(&cluster, "FailedAttachVolume", text).await;
    assert_eq!(attached_to(&cluster).await, [NODE]);
    let now = DeleteParams::default().grace_period(0);
    cluster.api::<Pod>().delete("first", &now).await.unwrap();
    // Longer than anything else here takes: only the node decides.
    cluster.node_says("True").await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(attached_to(&cluster).await, [NODE]);
    node_status(&cluster, NODE, json!({ "volumesInUse": null })).await;
    eventually("the other node gets it", || async {
        (attached_to(&cluster).await == ["node-2"]).then_some(())
    })
    .await;
    assert!(listed(NODE).await.is_empty());
    cluster.stop().await;
}
