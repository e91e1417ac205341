//! The least that is valid of each kind, but for kind, apiVersion and most names.

use knarr_api::resources::Resource;
use serde_json::{Value, json};

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn job_template() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    json!({"template": template})
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "a"}})
}

fn webhook() -> Value {
    json!([{"name": "hook.example.com", "clientConfig": {"url": "https://hook.example.com/"},
        "sideEffects": "None", "admissionReviewVersions": ["v1"]}])
}

fn device_requests() -> Value {
    json!({"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "gpu.example.com"}}]}})
}

fn rules() -> Value {
    json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])
}

fn role_ref(kind: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "some"})
}

fn match_resources() -> Value {
    json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]})
}

fn signing_request() -> Value {
    // A request that the server's own client library made; it is parsed, not believed.
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "somebody");
    let request = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(request).into()
}

fn certificate() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).expect("a certificate").pem()
}

/// A pod's key, and the proof that its owner holds it: its uid, signed.
fn pod_certificate_request() -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{PublicKeyData, SigningKey};
    const UID: &str = "6f1c4c2e-5b0a-4c7d-9a53-0b7b3f1f2f10";
    let key = rcgen::KeyPair::generate().expect("a key");
    let proof = key.sign(UID.as_bytes()).expect("a signature");
    json!({"spec": {"signerName": "example.com/signer", "podName": "p", "podUID": UID,
        "serviceAccountName": "default", "serviceAccountUID": "d3a1c1f0-0000-4000-8000-000000000001",
        "nodeName": "n", "nodeUID": "d3a1c1f0-0000-4000-8000-000000000002",
        "pkixPublicKey": STANDARD.encode(key.subject_public_key_info()),
        "proofOfPossession": STANDARD.encode(proof)}})
}

/// The sample of a resource; those of different numbers do not collide.
pub fn sample(resource: &Resource, number: usize) -> Value {
    match (resource.group, resource.name) {
        ("", "configmaps") => json!({"data": {"a": "b"}}),
        ("", "events") => {
            json!({"metadata": {"namespace": "operations"}, "reason": "Tested", "type": "Normal",
            "involvedObject": {"kind": "Pod", "namespace": "operations", "name": "p"}})
        }
        ("events.k8s.io", "events") => json!({"metadata": {"namespace": "operations"}, "reason": "Tested",
            "type": "Normal", "action": "Testing", "reportingController": "example.com/tester",
            "reportingInstance": "tester-0", "eventTime": "2030-01-01T00:00:00.000000Z",
            "regarding": {"kind": "Pod", "namespace": "operations", "name": "p"}}),
        ("", "limitranges") => json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
        ("", "persistentvolumeclaims") => json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        ("", "persistentvolumes") => json!({"spec": {"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp/a"}}}),
        ("", "pods") => json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        ("", "podtemplates") => json!({"template": template()}),
        ("", "replicationcontrollers") => json!({"spec": {"selector": {"app": "a"}, "template": template()}}),
        ("", "resourcequotas") => json!({"spec": {"hard": {"pods": "1"}}}),
        ("", "services") => json!({"spec": {"ports": [{"port": 80}]}}),
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => {
            json!({"webhooks": webhook()})
        }
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => json!({"spec": {
            "matchConstraints": match_resources(), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                "expression": "[JSONPatch{op: \"test\", path: \"/metadata/name\", value: \"a\"}]"}}]}}),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => json!({"spec": {
            "matchConstraints": match_resources(), "validations": [{"expression": "true"}]}}),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => {
            json!({"spec": {"policyName": "p"}})
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}})
        }
        ("apiextensions.k8s.io", _) => {
            let plural = format!("things{number}");
            json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": plural, "kind": format!("Thing{number}")},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
        }
        ("apiregistration.k8s.io", _) => {
            let group = format!("group{number}.example.com");
            json!({"metadata": {"name": format!("v1.{group}")}, "spec": {"group": group, "version": "v1",
                "groupPriorityMinimum": 1000, "versionPriority": 15, "insecureSkipTLSVerify": true,
                "service": {"namespace": "operations", "name": "nobody"}}})
        }
        ("apps", "controllerrevisions") => json!({"data": {"a": 1}, "revision": 1}),
        ("apps", "statefulsets") => {
            json!({"spec": {"selector": selector(), "template": template(), "serviceName": "s"}})
        }
        ("apps", _) => json!({"spec": {"selector": selector(), "template": template()}}),
        ("autoscaling", _) if resource.version == "v1" => json!({"spec": {"maxReplicas": 2,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        ("autoscaling", _) => json!({"spec": {"maxReplicas": 2,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        ("batch", "cronjobs") => {
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job_template()}}})
        }
        ("batch", "jobs") => json!({"spec": job_template()}),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            json!({"spec": {"request": signing_request(),
            "signerName": "example.com/signer", "usages": ["digital signature"]}})
        }
        ("certificates.k8s.io", "clustertrustbundles") => json!({"spec": {"trustBundle": certificate()}}),
        ("certificates.k8s.io", "podcertificaterequests") => pod_certificate_request(),
        ("coordination.k8s.io", "leases") => {
            json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 10}})
        }
        ("discovery.k8s.io", _) => json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => json!({"spec": {"matchingPrecedence": 9999,
            "priorityLevelConfiguration": {"name": "global-default"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}}),
        ("flowcontrol.apiserver.k8s.io", _) => json!({"spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}}),
        ("networking.k8s.io", "ingressclasses") => json!({"spec": {"controller": "example.com/controller"}}),
        ("networking.k8s.io", "ingresses") => {
            json!({"spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}})
        }
        ("networking.k8s.io", "ipaddresses") => {
            json!({"metadata": {"name": format!("192.168.1.{}", number + 1)},
            "spec": {"parentRef": {"resource": "services", "name": "foo", "namespace": "bar"}}})
        }
        ("networking.k8s.io", "networkpolicies") => {
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}})
        }
        ("networking.k8s.io", "servicecidrs") => {
            json!({"spec": {"cidrs": [format!("10.{}.0.0/16", 200 + number)]}})
        }
        ("node.k8s.io", _) => json!({"handler": "runc"}),
        ("policy", _) => json!({"spec": {"minAvailable": 1, "selector": selector()}}),
        ("rbac.authorization.k8s.io", "clusterroles" | "roles") => json!({"rules": rules()}),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => json!({"roleRef": role_ref("ClusterRole")}),
        ("rbac.authorization.k8s.io", "rolebindings") => json!({"roleRef": role_ref("Role")}),
        ("resource.k8s.io", "deviceclasses") => {
            json!({"spec": {"selectors": [{"cel": {"expression": "true"}}]}})
        }
        ("resource.k8s.io", "resourceclaims") => json!({"spec": device_requests()}),
        ("resource.k8s.io", "resourceclaimtemplates") => json!({"spec": {"spec": device_requests()}}),
        ("resource.k8s.io", "resourceslices") => {
            json!({"spec": {"driver": "gpu.example.com", "nodeName": "n",
            "pool": {"name": format!("p{number}"), "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "d"}]}})
        }
        ("resource.k8s.io", "devicetaintrules") => {
            json!({"spec": {"deviceSelector": {"driver": "gpu.example.com"},
            "taint": {"key": "example.com/broken", "effect": "NoSchedule"}}})
        }
        ("scheduling.k8s.io", "priorityclasses") => json!({"value": 10 + number}),
        ("storage.k8s.io", "csidrivers") => json!({"spec": {}}),
        ("storage.k8s.io", "csinodes") => {
            json!({"spec": {"drivers": [{"name": "csi.example.com", "nodeID": "n1"}]}})
        }
        ("storage.k8s.io", "csistoragecapacities") => json!({"storageClassName": "sc", "capacity": "1Gi"}),
        ("storage.k8s.io", "storageclasses") => json!({"provisioner": "csi.example.com"}),
        ("storage.k8s.io", "volumeattachments") => {
            json!({"spec": {"attacher": "csi.example.com", "nodeName": "n",
            "source": {"persistentVolumeName": "pv"}}})
        }
        ("storage.k8s.io", "volumeattributesclasses") => {
            json!({"driverName": "csi.example.com", "parameters": {"a": "b"}})
        }
        ("storagemigration.k8s.io", _) => json!({"spec": {"resource": {"group": "", "resource": "secrets"}}}),
        // Endpoints, namespaces, nodes, secrets, service accounts: a name is enough.
        _ => json!({}),
    }
}
