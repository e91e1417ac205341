//! Volumes, as far as they decide where a pod can run.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireVolume {
    name: Box<str>,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<serde::de::IgnoredAny>,
    image: Option<ImageSource>,
    #[serde(rename = "gcePersistentDisk")]
    gce: Option<Gce>,
    #[serde(rename = "awsElasticBlockStore")]
    aws: Option<Aws>,
    iscsi: Option<Iscsi>,
    rbd: Option<Rbd>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSource {
    claim_name: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ImageSource {
    reference: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Gce {
    pd_name: Box<str>,
    read_only: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Aws {
    #[serde(rename = "volumeID")]
    volume_id: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Iscsi {
    iqn: Box<str>,
    read_only: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rbd {
    monitors: Vec<Box<str>>,
    pool: Option<Box<str>>,
    image: Box<str>,
    read_only: bool,
}

/// A disk that a pod names itself, and that not everybody can have at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    Gce { name: Box<str>, read_only: bool },
    Aws { id: Box<str> },
    Iscsi { iqn: Box<str>, read_only: bool },
    Rbd { monitors: Vec<Box<str>>, pool: Box<str>, image: Box<str>, read_only: bool },
}

impl Disk {
    /// Whether two pods cannot have both on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gce { name: a, read_only: ra }, Self::Gce { name: b, read_only: rb }) => {
                a == b && !(*ra && *rb)
            }
            (Self::Aws { id: a }, Self::Aws { id: b }) => a == b,
            (Self::Iscsi { iqn: a, read_only: ra }, Self::Iscsi { iqn: b, read_only: rb }) => {
                a == b && !(*ra && *rb)
            }
            (
                Self::Rbd { monitors: ma, pool: pa, image: ia, read_only: ra },
                Self::Rbd { monitors: mb, pool: pb, image: ib, read_only: rb },
            ) => pa == pb && ia == ib && !(*ra && *rb) && ma.iter().any(|monitor| mb.contains(monitor)),
            _ => false,
        }
    }
}

/// A volume of a pod, if scheduling minds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volume {
    Claim {
        name: Box<str>,
        /// Made for this pod alone, by the ephemeral volume controller.
        ephemeral: bool,
    },
    Image(Box<str>),
    Disk(Disk),
}

impl Volume {
    pub(super) fn of(wire: WireVolume, pod: &str) -> Option<Self> {
        if let Some(claim) = wire.persistent_volume_claim {
            return Some(Self::Claim { name: claim.claim_name, ephemeral: false });
        }
        if wire.ephemeral.is_some() {
            return Some(Self::Claim { name: format!("{pod}-{}", wire.name).into(), ephemeral: true });
        }
        if let Some(image) = wire.image {
            return Some(Self::Image(image.reference));
        }
        let gce = wire.gce.map(|disk| Disk::Gce { name: disk.pd_name, read_only: disk.read_only });
        let aws = wire.aws.map(|disk| Disk::Aws { id: disk.volume_id });
        let iscsi = wire.iscsi.map(|disk| Disk::Iscsi { iqn: disk.iqn, read_only: disk.read_only });
        let rbd = wire.rbd.map(|disk| Disk::Rbd {
            monitors: disk.monitors,
            pool: disk.pool.unwrap_or_else(|| "rbd".into()),
            image: disk.image,
            read_only: disk.read_only,
        });
        gce.or(aws).or(iscsi).or(rbd).map(Self::Disk)
    }
}
