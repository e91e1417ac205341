//! What the server says about jobs.

use knarr_api::field::ErrorList;
use serde_json::{Value, json};

use super::{cron_job, job};
use crate::resources::testing::{check, check_updates, completed};

fn pod() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}})
}

fn job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "j", "namespace": "n", "uid": "u"},
        "spec": {"template": pod()},
    })
}

/// As after [`crate::registry::Strategy::prepare_for_create`].
fn create(job: &Value) -> ErrorList {
    let mut job = job.clone();
    job::generate_selector(&mut job);
    job::validate::create(&job)
}

#[test]
fn jobs_are_held_to_upstreams_rules() {
    let whole = completed(&job::Job, &job());
    let spec = &whole["spec"];
    assert_eq!(
        (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
        (&json!(1), &json!(1), &json!(6))
    );
    assert_eq!(
        (&spec["podReplacementPolicy"], &spec["completionMode"]),
        (&json!("TerminatingOrFailed"), &json!("NonIndexed"))
    );
    check(
        &job::Job,
        create,
        &job(),
        &[
            (
                "/spec/parallelism",
                json!(-1),
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Always"),
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                "/spec/backoffLimitPerIndex",
                json!(1),
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [{"action": "Ignore"}]}),
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ),
            (
                "/spec/template/metadata",
                json!({"labels": {"job-name": "x"}}),
                "spec.template.metadata.labels[job-name]: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"x\"}: must be 'j'",
            ),
        ],
    );
    check_updates(
        &job::Job,
        |new, old| {
            let (mut new, mut old) = (new.clone(), old.clone());
            job::generate_selector(&mut new);
            job::generate_selector(&mut old);
            job::validate::update(&new, &old)
        },
        &job(),
        &[
            ("/spec/parallelism", json!(3), "spec.completions: Invalid value: null: field is immutable"),
            ("/spec/suspend", json!(true), ""),
            ("/spec/template/spec/containers/0/image", json!("x"), "spec.template: Invalid value: {"),
        ],
    );
}

#[test]
fn cron_jobs_are_held_to_upstreams_rules() {
    let valid = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c", "namespace": "n"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": pod()}}},
    });
    check(
        &cron_job::CronJob,
        cron_job::create,
        &valid,
        &[
            ("/spec/schedule", json!(""), "spec.schedule: Required value"),
            (
                "/spec/schedule",
                json!("x"),
                "spec.schedule: Invalid value: \"x\": expected exactly 5 fields, found 1: [x]",
            ),
            (
                "/spec/timeZone",
                json!("Mars/Base"),
                "spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base",
            ),
            (
                "/spec/concurrencyPolicy",
                json!("X"),
                "spec.concurrencyPolicy: Unsupported value: \"X\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
            (
                "/metadata/name",
                json!("a".repeat(53)),
                &format!(
                    "metadata.name: Invalid value: \"{}\": must be no more than 52 characters",
                    "a".repeat(53)
                ),
            ),
        ],
    );
}
