//! What the server says about workloads.

use serde_json::{Value, json};

use super::{daemon_set, deployment, replica_set, stateful_set};
use crate::resources::testing::{check, check_updates, completed};

fn workload(kind: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": "w", "namespace": "n"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

#[test]
fn deployments_are_held_to_upstreams_rules() {
    use deployment::{Deployment, validate};
    let valid = workload("Deployment");
    let whole = completed(&Deployment, &valid);
    assert_eq!(
        whole["spec"]["strategy"],
        json!({
            "type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
        })
    );
    assert_eq!(
        (&whole["spec"]["replicas"], &whole["spec"]["progressDeadlineSeconds"]),
        (&json!(1), &json!(600))
    );
    check(
        &Deployment,
        validate::spec,
        &valid,
        &[
            (
                "/spec/replicas",
                json!(-1),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "/spec/selector",
                json!({}),
                "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
            ),
            (
                "/spec/selector/matchLabels/a",
                json!("x"),
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            ),
            (
                "/spec/strategy",
                json!({"type": "Recreate", "rollingUpdate": {}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                "/spec/strategy",
                json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ),
            (
                "/spec/minReadySeconds",
                json!(600),
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(5),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ),
            (
                "/spec/template/spec/containers/0/name",
                json!(""),
                "spec.template.spec.containers[0].name: Required value",
            ),
        ],
    );
    check_updates(
        &Deployment,
        validate::update,
        &valid,
        &[
            ("/spec/replicas", json!(3), ""),
            (
                "/spec/selector",
                json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
                "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\"}]}: field is immutable",
            ),
        ],
    );
}

#[test]
fn replica_sets_are_held_to_upstreams_rules() {
    check(
        &replica_set::ReplicaSet,
        replica_set::validate,
        &workload("ReplicaSet"),
        &[
            (
                "/spec/replicas",
                json!(-1),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "/spec/minReadySeconds",
                json!(-1),
                "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "/spec/selector",
                json!(null),
                "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`]",
            ),
        ],
    );
}

#[test]
fn stateful_sets_are_held_to_upstreams_rules() {
    let mut valid = workload("StatefulSet");
    valid["spec"]["serviceName"] = json!("s");
    valid["spec"]["volumeClaimTemplates"] = json!([{
        "metadata": {"name": "d"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }]);
    valid["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "d", "mountPath": "/d"}]);
    check(
        &stateful_set::StatefulSet,
        stateful_set::create,
        &valid,
        &[
            (
                "/spec/podManagementPolicy",
                json!("X"),
                "spec.podManagementPolicy: Invalid value: \"X\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                "/spec/serviceName",
                json!("S"),
                "spec.serviceName: Invalid value: \"S\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                "/spec/volumeClaimTemplates/0/spec/accessModes",
                json!([]),
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            ),
            (
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenScaled": "X"}),
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"X\": supported values: \"Retain\", \"Delete\"",
            ),
        ],
    );
    check_updates(
        &stateful_set::StatefulSet,
        stateful_set::update,
        &valid,
        &[
            ("/spec/replicas", json!(3), ""),
            ("/spec/minReadySeconds", json!(3), ""),
            (
                "/spec/serviceName",
                json!("t"),
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ),
        ],
    );
}

#[test]
fn daemon_sets_are_held_to_upstreams_rules() {
    check(
        &daemon_set::DaemonSet,
        daemon_set::validate,
        &workload("DaemonSet"),
        &[
            (
                "/spec/selector",
                json!({}),
                "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": 0}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxSurge": 1}}),
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ),
        ],
    );
}
