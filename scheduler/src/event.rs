//! What happens in the cluster, and which of it may help a pod that found no node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::api::storage::v1::{CSINode, CSIStorageCapacity, StorageClass};

use crate::object::{Node, Pod};

/// A set of kinds of events: upstream's resource and action types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u32);

impl Kinds {
    pub const NODE_ADD: Self = Self(1);
    pub const NODE_ALLOCATABLE: Self = Self(1 << 1);
    pub const NODE_LABEL: Self = Self(1 << 2);
    pub const NODE_TAINT: Self = Self(1 << 3);
    /// A pod got a node.
    pub const POD_ADD: Self = Self(1 << 4);
    pub const POD_LABEL: Self = Self(1 << 5);
    pub const POD_SCALE_DOWN: Self = Self(1 << 6);
    pub const POD_TOLERATION: Self = Self(1 << 7);
    /// A pod that had a node is gone or finished.
    pub const POD_DELETE: Self = Self(1 << 8);
    pub const CLAIM_ADD: Self = Self(1 << 9);
    pub const CLAIM_UPDATE: Self = Self(1 << 10);
    pub const VOLUME_ADD: Self = Self(1 << 11);
    pub const VOLUME_UPDATE: Self = Self(1 << 12);
    pub const CLASS_ADD: Self = Self(1 << 13);
    pub const CLASS_UPDATE: Self = Self(1 << 14);
    pub const CSI_NODE_ADD: Self = Self(1 << 15);
    pub const CSI_NODE_UPDATE: Self = Self(1 << 16);
    pub const CSI_DRIVER_UPDATE: Self = Self(1 << 17);
    pub const CAPACITY_ADD: Self = Self(1 << 18);
    pub const CAPACITY_UPDATE: Self = Self(1 << 19);
    pub const ATTACHMENT_DELETE: Self = Self(1 << 20);
    /// A ResourceClaim came or changed.
    pub const RESOURCE_CLAIM: Self = Self(1 << 21);
    /// A pod learnt the names of its generated ResourceClaims.
    pub const POD_CLAIMS: Self = Self(1 << 22);
    /// A DeviceClass came or changed.
    pub const DEVICE_CLASS: Self = Self(1 << 23);
    /// A ResourceSlice came or changed.
    pub const RESOURCE_SLICE: Self = Self(1 << 24);

    pub const ALL: Self = Self((1 << Self::COUNT) - 1);

    /// How many kinds there are; each has a bit below it.
    pub const COUNT: usize = 25;

    /// Upstream's names of the kinds, for metrics.
    const LABELS: [&'static str; Self::COUNT] = [
        "NodeAdd",
        "NodeUpdateNodeAllocatable",
        "NodeUpdateNodeLabel",
        "NodeUpdateNodeTaint",
        "AssignedPodAdd",
        "AssignedPodUpdatePodLabel",
        "AssignedPodUpdatePodScaleDown",
        "UnschedulablePodUpdatePodToleration",
        "AssignedPodDelete",
        "PersistentVolumeClaimAdd",
        "PersistentVolumeClaimUpdate",
        "PersistentVolumeAdd",
        "PersistentVolumeUpdate",
        "storage.k8s.io/StorageClassAdd",
        "storage.k8s.io/StorageClassUpdate",
        "storage.k8s.io/CSINodeAdd",
        "storage.k8s.io/CSINodeUpdate",
        "storage.k8s.io/CSIDriverUpdate",
        "storage.k8s.io/CSIStorageCapacityAdd",
        "storage.k8s.io/CSIStorageCapacityUpdate",
        "storage.k8s.io/VolumeAttachmentDelete",
        "resource.k8s.io/ResourceClaimUpdate",
        "UnschedulablePodUpdatePodGeneratedResourceClaim",
        "resource.k8s.io/DeviceClassUpdate",
        "resource.k8s.io/ResourceSliceUpdate",
    ];

    /// What an event of these kinds is called in metrics.
    pub fn label(self) -> &'static str {
        self.indices().next().map_or("", |first| Self::LABELS[first])
    }

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds as numbers below [`Self::COUNT`].
    pub fn indices(self) -> impl Iterator<Item = usize> {
        (0..Self::COUNT).filter(move |bit| self.0 & (1 << bit) != 0)
    }
}

/// What an event is about, before and after.
#[derive(Debug, Clone)]
pub enum Subject {
    Node {
        old: Option<Arc<Node>>,
        new: Arc<Node>,
    },
    Pod {
        old: Option<Arc<Pod>>,
        new: Option<Arc<Pod>>,
    },
    Claim(Arc<PersistentVolumeClaim>),
    Volume {
        old: Option<Arc<PersistentVolume>>,
        new: Arc<PersistentVolume>,
    },
    Class {
        old: Option<Arc<StorageClass>>,
        new: Arc<StorageClass>,
    },
    CsiNode {
        old: Option<Arc<CSINode>>,
        new: Arc<CSINode>,
    },
    /// One that publishes no capacity any more.
    CsiDriver,
    Capacity {
        old: Option<Arc<CSIStorageCapacity>>,
        new: Arc<CSIStorageCapacity>,
    },
    Attachment,
    ResourceClaim {
        old: Option<Arc<ResourceClaim>>,
        new: Arc<ResourceClaim>,
    },
    DeviceClass,
    ResourceSlice,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    pub kinds: Kinds,
    pub subject: Subject,
}

impl Event {
    pub fn node(kinds: Kinds, old: Option<Arc<Node>>, new: Arc<Node>) -> Self {
        Self { kinds, subject: Subject::Node { old, new } }
    }

    pub fn pod(kinds: Kinds, old: Option<Arc<Pod>>, new: Option<Arc<Pod>>) -> Self {
        Self { kinds, subject: Subject::Pod { old, new } }
    }

    /// The node after the event, if it is about one.
    pub fn new_node(&self) -> Option<&Node> {
        match &self.subject {
            Subject::Node { new, .. } => Some(new),
            _ => None,
        }
    }

    pub fn old_node(&self) -> Option<&Node> {
        match &self.subject {
            Subject::Node { old, .. } => old.as_deref(),
            _ => None,
        }
    }

    /// The pod that was deleted, if this is what happened.
    pub fn deleted_pod(&self) -> Option<&Pod> {
        match &self.subject {
            Subject::Pod { old: Some(old), new: None } => Some(old),
            _ => None,
        }
    }

    /// Whether a pod itself changed.
    pub fn is_about(&self, pod: &Pod) -> bool {
        let is = |other: &Option<Arc<Pod>>| {
            other.as_ref().is_some_and(|other| other.metadata.uid == pod.metadata.uid)
        };
        matches!(&self.subject, Subject::Pod { old, new } if is(old) || is(new))
    }
}
