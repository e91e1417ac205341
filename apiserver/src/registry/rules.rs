//! What holds for a kind as a whole, as a table: what is the same everywhere needs no code per kind.

use knarr_api::names;
use knarr_storage::Durability;

use super::strategy::GarbageCollection;

#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `metadata.generation` counts changes of everything but metadata and status.
    pub generation: bool,
    /// The status is written through its subresource only.
    pub status: bool,
    /// A creator may set the status (nodes).
    pub status_on_create: bool,
    /// PUT on a name that does not exist creates it.
    pub create_on_update: bool,
    /// PUT without a resourceVersion overwrites whatever is there.
    pub unconditional_update: bool,
    pub garbage_collection: GarbageCollection,
    /// DELETE answers the object, not a Status.
    pub returns_deleted: bool,
    pub durability: Durability,
    /// The rule for names: everything wrong with one, or with a `generateName` prefix.
    pub name: fn(&str, bool) -> Vec<String>,
}

const GENERATION: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "podtemplates"),
    ("", "replicationcontrollers"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
    ("discovery.k8s.io", "endpointslices"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ("networking.k8s.io", "ingressclasses"),
    ("networking.k8s.io", "ingresses"),
    ("networking.k8s.io", "networkpolicies"),
    ("policy", "poddisruptionbudgets"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "devicetaintrules"),
    ("resource.k8s.io", "resourceslices"),
    ("scheduling.k8s.io", "priorityclasses"),
];

const CREATE_ON_UPDATE: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "leasecandidates"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
];

const CONDITIONAL_UPDATE: &[(&str, &str)] = &[
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("certificates.k8s.io", "podcertificaterequests"),
    ("coordination.k8s.io", "leasecandidates"),
    ("coordination.k8s.io", "leases"),
    ("node.k8s.io", "runtimeclasses"),
    ("policy", "poddisruptionbudgets"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "volumeattachments"),
    ("storagemigration.k8s.io", "storageversionmigrations"),
];

const RETURNS_DELETED: &[(&str, &str)] = &[
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
];

impl Rules {
    /// The rules of a built-in resource.
    pub fn builtin(group: &str, resource: &str, has_status: bool) -> Self {
        let is = (group, resource);
        Self {
            generation: GENERATION.contains(&is),
            status: has_status,
            status_on_create: is == ("", "nodes"),
            create_on_update: CREATE_ON_UPDATE.contains(&is),
            unconditional_update: group != "admissionregistration.k8s.io"
                && !CONDITIONAL_UPDATE.contains(&is),
            garbage_collection: match is {
                ("batch", "jobs") | ("", "replicationcontrollers") => GarbageCollection::Orphan,
                (_, "events") => GarbageCollection::Unsupported,
                _ => GarbageCollection::Background,
            },
            returns_deleted: group == "resource.k8s.io" || RETURNS_DELETED.contains(&is),
            durability: match is {
                (_, "events") | ("coordination.k8s.io", "leases") => Durability::Batched,
                _ => Durability::Durable,
            },
            name: match is {
                ("", "namespaces" | "services") | ("apps", "statefulsets") => names::name_is_dns_label,
                ("rbac.authorization.k8s.io", _) | (_, "events") => names::name_is_path_segment,
                ("certificates.k8s.io", _) | ("networking.k8s.io", "ipaddresses") => {
                    names::name_is_path_segment
                }
                ("apiregistration.k8s.io", _) => names::name_is_path_segment,
                _ => names::name_is_dns_subdomain,
            },
        }
    }

    /// The rules of a custom resource.
    pub fn custom(has_status: bool) -> Self {
        Self {
            generation: true,
            status: has_status,
            status_on_create: false,
            create_on_update: false,
            unconditional_update: false,
            garbage_collection: GarbageCollection::Background,
            returns_deleted: false,
            durability: Durability::Durable,
            name: names::name_is_dns_subdomain,
        }
    }
}
