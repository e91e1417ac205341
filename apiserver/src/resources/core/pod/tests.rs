//! What the server says about pods.

use serde_json::{Value, json};

use super::{Pod, qos_class, status, validate};
use crate::registry::Strategy;
use crate::resources::testing::{check, check_updates, completed};

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "configMap": {"name": "m"}}],
        },
    })
}

#[test]
fn defaults_are_upstreams() {
    let pod = completed(
        &Pod,
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {
                "hostNetwork": true,
                "containers": [{
                    "name": "c", "image": "i:1", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "1"}},
                    "livenessProbe": {"httpGet": {"port": 80}},
                }],
                "volumes": [{"name": "v", "secret": {"secretName": "s"}}, {"name": "e"}],
            },
        }),
    );
    let spec = &pod["spec"];
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["ports"][0], json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
    assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
    assert_eq!(
        container["livenessProbe"],
        json!({
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        })
    );
    assert_eq!(spec["volumes"][0]["secret"]["defaultMode"], 420);
    assert_eq!(spec["volumes"][1]["emptyDir"], json!({}));
    assert_eq!(spec["enableServiceLinks"], true);
    assert_eq!(spec["securityContext"], json!({}));
    assert_eq!((&spec["dnsPolicy"], &spec["restartPolicy"]), (&json!("ClusterFirst"), &json!("Always")));
}

#[test]
fn each_fault_of_a_new_pod_is_told_in_upstreams_words() {
    check(
        &Pod,
        validate::create,
        &pod(),
        &[
            ("/spec/containers", json!([]), "spec.containers: Required value"),
            (
                "/spec/containers/0/name",
                json!("C"),
                "spec.containers[0].name: Invalid value: \"C\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            ("/spec/containers/0/image", json!(""), "spec.containers[0].image: Required value"),
            (
                "/spec/containers/0/image",
                json!(" i"),
                "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
            ),
            (
                "/spec/containers/0/imagePullPolicy",
                json!("Maybe"),
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            (
                "/spec/containers/0/volumeMounts/0/name",
                json!("x"),
                "spec.containers[0].volumeMounts[0].name: Not found: \"x\"",
            ),
            (
                "/spec/containers/0/volumeMounts/0/subPath",
                json!("../x"),
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 0}]),
                "spec.containers[0].ports[0].containerPort: Required value",
            ),
            (
                "/spec/containers/0/ports",
                json!([{"containerPort": 70000}]),
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                "/spec/containers/0/env",
                json!([{"name": "A=B"}]),
                "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ),
            (
                "/spec/containers/0/env",
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]),
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x",
            ),
            (
                "/spec/containers/0/livenessProbe",
                json!({"successThreshold": 2, "exec": {"command": ["a"]}}),
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ),
            (
                "/spec/containers/0/readinessProbe",
                json!({}),
                "spec.containers[0].readinessProbe: Required value: must specify a handler type",
            ),
            (
                "/spec/containers/0/resources",
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                "/spec/containers/0/resources",
                json!({"limits": {"gpu": "1"}}),
                "[spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified, spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers, spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified, spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers]",
            ),
            (
                "/spec/containers/0/securityContext",
                json!({"runAsUser": -1}),
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ),
            (
                "/spec/volumes/0/emptyDir",
                json!({}),
                "[spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type, spec.containers[0].volumeMounts[0].name: Not found: \"v\"]",
            ),
            (
                "/spec/volumes/1",
                json!({"name": "h", "hostPath": {"path": "/a", "type": "X"}}),
                "spec.volumes[1].hostPath.type: Unsupported value: \"X\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ),
            (
                "/spec/volumes/1",
                json!({"name": "v", "emptyDir": {}}),
                "spec.volumes[1].name: Duplicate value: \"v\"",
            ),
            (
                "/spec/restartPolicy",
                json!("Sometimes"),
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
            (
                "/spec/dnsPolicy",
                json!("None"),
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            ),
            (
                "/spec/activeDeadlineSeconds",
                json!(0),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ),
            (
                "/spec/nodeSelector",
                json!({"a b": "c"}),
                "spec.nodeSelector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
            (
                "/spec/tolerations",
                json!([{"operator": "Equal"}]),
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ),
            (
                "/spec/ephemeralContainers",
                json!([{"name": "e", "image": "i"}]),
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
            ),
            (
                "/spec/initContainers",
                json!([{"name": "c", "image": "i"}]),
                "spec.initContainers[0].name: Duplicate value: \"c\"",
            ),
            (
                "/spec/topologySpreadConstraints",
                json!([{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]),
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            ),
            (
                "/spec/securityContext",
                json!({"sysctls": [{"name": "A", "value": "1"}]}),
                "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ),
            (
                "/spec/schedulingGates",
                json!([{"name": "a"}, {"name": "a"}]),
                "spec.schedulingGates[1]: Duplicate value: \"a\"",
            ),
        ],
    );
}

#[test]
fn few_fields_of_a_pod_may_change() {
    check_updates(
        &Pod,
        validate::update,
        &pod(),
        &[
            ("/spec/containers/0/image", json!("j"), ""),
            ("/spec/activeDeadlineSeconds", json!(10), ""),
            ("/spec/tolerations", json!([{"operator": "Exists"}]), ""),
            (
                "/spec/nodeName",
                json!("x"),
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n@@ ",
            ),
            (
                "/spec/containers/1",
                json!({"name": "d", "image": "i"}),
                "spec.containers: Forbidden: pod updates may not add or remove containers",
            ),
        ],
    );
}

#[test]
fn a_container_that_ended_for_good_stays_ended() {
    let with = |state: Value, policy: &str| {
        let mut pod = pod();
        pod["spec"]["restartPolicy"] = json!(policy);
        pod["status"] = json!({"containerStatuses": [{"name": "c", "state": state}]});
        pod
    };
    let (ended, runs) = (json!({"terminated": {"exitCode": 0}}), json!({"running": {}}));
    assert!(status::update(&with(runs.clone(), "Always"), &with(ended.clone(), "Always")).is_empty());
    assert_eq!(
        status::update(&with(runs, "OnFailure"), &with(ended, "OnFailure")).to_string(),
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    );
}

#[test]
fn requests_and_limits_decide_the_quality_of_service() {
    let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
    let both = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
    assert_eq!(qos_class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
    assert_eq!(qos_class(&pod(json!({"limits": both, "requests": both}))), "Guaranteed");
    assert_eq!(
        qos_class(&pod(json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}}))),
        "Burstable"
    );
}

#[test]
fn a_pod_on_no_node_ends_at_once() {
    let pod = json!({"spec": {"terminationGracePeriodSeconds": 30}});
    assert_eq!(Pod.grace_period(&pod, None), Some(0));
    let placed = json!({"spec": {"terminationGracePeriodSeconds": 30, "nodeName": "n"}});
    assert_eq!(Pod.grace_period(&placed, None), Some(30));
    assert_eq!(Pod.grace_period(&placed, Some(5)), Some(5));
}
