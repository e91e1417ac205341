use k8s_openapi::api::{
    batch::v1::{CronJob, Job, JobStatus},
    core::v1::Pod,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::harness::{Cluster, NAMESPACE, NODE, eventually};

fn job(name: &str, ends_as: &str, more: Value) -> Value {
    let mut job = json!({
        "metadata": { "name": name },
        "spec": {
            "template": {
                "metadata": { "labels": { "ends-as": ends_as } },
                "spec": {
                    "nodeName": NODE,
                    "restartPolicy": "Never",
                    "containers": [{ "name": "main", "image": "image:1" }],
                },
            },
        },
    });
    for (key, value) in more.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    job
}

async fn ended(cluster: &Cluster, name: &str, condition: &str) -> JobStatus {
    eventually("the job is over", || async {
        let status = cluster.api::<Job>().get(name).await.unwrap().status?;
        let over = status.conditions.iter().flatten().any(|c| c.type_ == condition && c.status == "True");
        over.then_some(status)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_job_counts_its_pods_once_and_lets_them_go() {
    let cluster = Cluster::start().await;
    let more = json!({ "completions": 5, "parallelism": 2 });
    cluster.create::<Job>(NAMESPACE, job("work", "Succeeded", more)).await;
    let status = ended(&cluster, "work", "Complete").await;
    assert_eq!((status.succeeded, status.failed, status.active), (Some(5), None, None));
    assert!(status.completion_time.is_some());
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), 5);
    assert!(pods.iter().all(|pod| pod.finalizers().is_empty()));
    cluster.api::<Job>().delete("work", &DeleteParams::background()).await.unwrap();
    eventually("its pods go with it", || async {
        cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_pods_fail_gives_up_after_its_backoff_limit() {
    let cluster = Cluster::start().await;
    let more = json!({ "backoffLimit": 2 });
    cluster.create::<Job>(NAMESPACE, job("work", "Failed", more)).await;
    let status = ended(&cluster, "work", "Failed").await;
    assert_eq!(status.failed, Some(3));
    let failed = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Failed").unwrap();
    assert_eq!(failed.reason.as_deref(), Some("BackoffLimitExceeded"));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_indexed_job_runs_every_index_and_can_be_suspended() {
    let cluster = Cluster::start().await;
    let more = json!({ "completions": 4, "parallelism": 4, "completionMode": "Indexed", "suspend": true });
    cluster.create::<Job>(NAMESPACE, job("work", "Succeeded", more)).await;
    eventually("it says that it is suspended", || async {
        let status = cluster.api::<Job>().get("work").await.unwrap().status?;
        status.conditions?.into_iter().find(|c| c.type_ == "Suspended" && c.status == "True")
    })
    .await;
    assert!(cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items.is_empty());
    let resume = json!({ "spec": { "suspend": false } });
    cluster.api::<Job>().patch("work", &PatchParams::default(), &Patch::Merge(resume)).await.unwrap();
    let status = ended(&cluster, "work", "Complete").await;
    assert_eq!(status.completed_indexes.as_deref(), Some("0-3"));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_runs_every_minute_and_keeps_its_history_short() {
    let cluster = Cluster::start().await;
    let mut template = job("", "Succeeded", json!({}));
    template.as_object_mut().unwrap().remove("metadata");
    let cron = json!({
        "metadata": { "name": "tick" },
        "spec": {
            "schedule": "* * * * *",
            "concurrencyPolicy": "Allow",
            "successfulJobsHistoryLimit": 2,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": template,
        },
    });
    cluster.create::<CronJob>(NAMESPACE, cron).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let before = seen.len();
        let names = eventually("another job is made", || async {
            let jobs = cluster.api::<Job>().list(&ListParams::default()).await.unwrap().items;
            let names: Vec<_> = jobs.iter().map(ResourceExt::name_any).collect();
            names.iter().any(|name| !seen.contains(name)).then_some(names)
        })
        .await;
        seen.extend(names);
        assert_eq!(seen.len(), before + 1, "one at a time");
    }
    eventually("old ones are removed", || async {
        let jobs = cluster.api::<Job>().list(&ListParams::default()).await.unwrap().items;
        (jobs.len() <= 3).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_ended_job_is_removed_when_its_time_is_over() {
    let cluster = Cluster::start().await;
    let more = json!({ "ttlSecondsAfterFinished": 60 });
    cluster.create::<Job>(NAMESPACE, job("work", "Succeeded", more)).await;
    ended(&cluster, "work", "Complete").await;
    eventually("it is removed with its pods", || async {
        let jobs = cluster.api::<Job>().list(&ListParams::default()).await.unwrap().items;
        let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        (jobs.is_empty() && pods.is_empty()).then_some(())
    })
    .await;
    cluster.stop().await;
}

async fn running(cluster: &Cluster, count: usize) -> Vec<Pod> {
    eventually("the pods run", || async {
        let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        (pods.len() == count).then_some(pods)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_deleted_job_leaves_no_pod_behind() {
    for orphans in [false, true] {
        let cluster = Cluster::start().await;
        let more = json!({ "completions": 4, "parallelism": 2 });
        cluster.create::<Job>(NAMESPACE, job("work", "never", more)).await;
        running(&cluster, 2).await;
        let how = if orphans { DeleteParams::orphan() } else { DeleteParams::background() };
        cluster.api::<Job>().delete("work", &how).await.unwrap();
        eventually("its pods go with it, or are let go", || async {
            let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
            let free =
                pods.iter().all(|pod| pod.finalizers().is_empty() && pod.owner_references().is_empty());
            (free && pods.len() == if orphans { 2 } else { 0 }).then_some(())
        })
        .await;
        cluster.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_adopts_its_pods_again_and_releases_those_of_other_labels() {
    let cluster = Cluster::start().await;
    let more = json!({ "completions": 4, "parallelism": 2 });
    let made: Job = cluster.create(NAMESPACE, job("work", "never", more)).await;
    let pods = running(&cluster, 2).await;
    let (name, api) = (pods[0].name_any(), cluster.api::<Pod>());
    let change = async |patch: Value| {
        api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({ "metadata": patch }))).await.unwrap();
    };
    change(json!({ "ownerReferences": null })).await;
    eventually("it is adopted, and held again", || async {
        let pod = api.get(&name).await.unwrap();
        let ours = pod.owner_references().iter().any(|owner| Some(&owner.uid) == made.metadata.uid.as_ref());
        (ours && !pod.finalizers().is_empty()).then_some(())
    })
    .await;
    change(json!({ "labels": null })).await;
    eventually("it is released, and another takes its place", || async {
        let pod = api.get(&name).await.unwrap();
        let all = api.list(&ListParams::default()).await.unwrap().items;
        (pod.owner_references().is_empty() && pod.finalizers().is_empty() && all.len() == 3).then_some(())
    })
    .await;
    cluster.stop().await;
}
