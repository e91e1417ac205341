//! Every controller there is. Adding one is adding its folder and a line here.

use futures::future::BoxFuture;

use crate::{
    Context, autoscaling, bootstrap_tokens, certificates, cluster_roles, cron_jobs, daemon_sets, deployment,
    disruption, endpoint_mirroring, endpoint_slices, endpoints, garbage, jobs, load_balancers, namespaces,
    nodes, pod_garbage, quota, replicas, resource_claims, service_accounts, service_cidrs, stateful_sets,
    ttl_after_finished, volumes,
};

/// One controller: what it is called and how it is made.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// Upstream's name, as in `--controllers`.
    pub name: &'static str,
    /// Who it acts as.
    pub account: Account,
    /// Registers its handlers and gives the task that works until the context's shutdown.
    pub build: fn(Context) -> BoxFuture<'static, ()>,
}

/// Who a controller acts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// A service account in `kube-system`.
    Service(&'static str),
    /// The user that upstream's controller manager is.
    Manager,
}

const fn controller(
    name: &'static str,
    account: &'static str,
    build: fn(Context) -> BoxFuture<'static, ()>,
) -> Descriptor {
    Descriptor { name, account: Account::Service(account), build }
}

pub const CATALOGUE: &[Descriptor] = &[
    controller("deployment-controller", "deployment-controller", deployment::build),
    controller("endpoints-controller", "endpoint-controller", endpoints::build),
    controller("endpointslice-controller", "endpointslice-controller", endpoint_slices::build),
    controller("garbage-collector-controller", "generic-garbage-collector", garbage::build),
    controller("namespace-controller", "namespace-controller", namespaces::build),
    controller("replicaset-controller", "replicaset-controller", replicas::build_replica_sets),
    controller(
        "replicationcontroller-controller",
        "replication-controller",
        replicas::build_replication_controllers,
    ),
    controller(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
        service_accounts::build_root_ca,
    ),
    Descriptor {
        name: "serviceaccount-token-controller",
        account: Account::Manager,
        build: service_accounts::legacy_tokens::build,
    },
    controller("serviceaccount-controller", "service-account-controller", service_accounts::build),
    controller(
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation-controller",
        cluster_roles::build,
    ),
    controller("node-ipam-controller", "node-controller", nodes::ipam::build),
    controller("node-lifecycle-controller", "node-controller", nodes::lifecycle::build),
    controller("pod-garbage-collector-controller", "pod-garbage-collector", pod_garbage::build),
    controller("taint-eviction-controller", "node-controller", nodes::eviction::build),
    controller("statefulset-controller", "statefulset-controller", stateful_sets::build),
    controller("daemonset-controller", "daemon-set-controller", daemon_sets::build),
    controller("job-controller", "job-controller", jobs::build),
    controller("cronjob-controller", "cronjob-controller", cron_jobs::build),
    controller("disruption-controller", "disruption-controller", disruption::build),
    controller(
        "endpointslice-mirroring-controller",
        "endpointslicemirroring-controller",
        endpoint_mirroring::build,
    ),
    controller("ttl-after-finished-controller", "ttl-after-finished-controller", ttl_after_finished::build),
    controller(
        "persistentvolume-attach-detach-controller",
        "attachdetach-controller",
        volumes::attach_detach::build,
    ),
    controller("persistentvolume-binder-controller", "persistent-volume-binder", volumes::binder::build),
    controller(
        "persistentvolume-protection-controller",
        "pv-protection-controller",
        volumes::protection::build_volumes,
    ),
    controller(
        "persistentvolumeclaim-protection-controller",
        "pvc-protection-controller",
        volumes::protection::build_claims,
    ),
    controller(
        "volumeattributesclass-protection-controller",
        "volumeattributesclass-protection-controller",
        volumes::attributes_protection::build,
    ),
    controller("resourcequota-controller", "resourcequota-controller", quota::build),
    controller("ephemeral-volume-controller", "ephemeral-volume-controller", volumes::ephemeral::build),
    controller("local-storage-provisioner", "persistent-volume-binder", volumes::provisioner::build),
    controller(
        "certificatesigningrequest-approving-controller",
        "certificate-controller",
        certificates::approve::build,
    ),
    controller(
        "kubelet-serving-certificate-approver-controller",
        "kubelet-serving-approver",
        certificates::serving::build,
    ),
    controller("service-lb-controller", "service-controller", load_balancers::build),
    controller(
        "certificatesigningrequest-signing-controller",
        "certificate-controller",
        certificates::sign::build,
    ),
    controller(
        "certificatesigningrequest-cleaner-controller",
        "certificate-controller",
        certificates::clean::build,
    ),
    controller(
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
        "kube-apiserver-serving-clustertrustbundle-publisher",
        certificates::trust_bundle::build,
    ),
    controller("horizontal-pod-autoscaler-controller", "horizontal-pod-autoscaler", autoscaling::build),
    controller("service-cidr-controller", "service-cidrs-controller", service_cidrs::build),
    controller("resourceclaim-controller", "resource-claim-controller", resource_claims::build),
    controller("bootstrap-signer-controller", "bootstrap-signer", bootstrap_tokens::signer::build),
    controller("token-cleaner-controller", "token-cleaner", bootstrap_tokens::cleaner::build),
];
