//! Volumes of a pod: exactly one source each, and what each source must say.

mod common;
mod disks;
mod projected;
mod shares;

use std::collections::{BTreeMap, BTreeSet};

use knarr_api::field::ErrorList;
use knarr_api::names;

use super::validate::Owner;
use crate::resources::at::At;

pub use common::{csi_driver_name, host_path};
pub use disks::{PORTAL_TOO_LONG, azure_disk, fc, iscsi_name, partitioned, rbd, scale_io, storage_os};
pub use shares::{ceph_fs, flex, flocker, nfs, quobyte};

/// The volumes that containers may mount, by name; true where block devices may come from.
pub type Known<'a> = BTreeMap<&'a str, bool>;

/// What a source's rule may want to know about its volume.
pub struct Volume<'a> {
    pub name: At<'a>,
    pub owner: &'a Owner<'a>,
}

/// A kind of volume.
struct Source {
    field: &'static str,
    /// As upstream calls it in errors about its content.
    path: &'static str,
    /// As upstream calls it when another source is there as well.
    second: &'static str,
    check: fn(&At<'_>, &Volume<'_>, &mut ErrorList),
}

const fn source(field: &'static str, check: fn(&At<'_>, &Volume<'_>, &mut ErrorList)) -> Source {
    Source { field, path: field, second: field, check }
}

/// In the order upstream looks at them, which decides which of two is told to be too many.
const SOURCES: &[Source] = &[
    source("emptyDir", common::empty_dir),
    source("hostPath", |at, _, errors| common::host_path(at, errors)),
    source("gitRepo", common::git_repo),
    Source {
        path: "persistentDisk",
        ..source("gcePersistentDisk", |at, _, errors| disks::partitioned(at, "pdName", errors))
    },
    source("awsElasticBlockStore", |at, _, errors| disks::partitioned(at, "volumeID", errors)),
    source("secret", common::secret),
    source("nfs", |at, _, errors| shares::nfs(at, errors)),
    source("iscsi", disks::iscsi),
    source("glusterfs", shares::glusterfs),
    source("flocker", |at, _, errors| shares::flocker(at, errors)),
    source("persistentVolumeClaim", |at, _, errors| at.at("claimName").require_text(errors)),
    source("rbd", |at, _, errors| disks::rbd(at, errors)),
    source("cinder", disks::cinder),
    Source { second: "cephFS", ..source("cephfs", |at, _, errors| shares::ceph_fs(at, errors)) },
    source("quobyte", |at, _, errors| shares::quobyte(at, errors)),
    Source { second: "downwarAPI", ..source("downwardAPI", common::downward_api) },
    source("fc", |at, _, errors| disks::fc(at, errors)),
    source("flexVolume", |at, _, errors| shares::flex(at, errors)),
    source("configMap", common::config_map),
    source("azureFile", shares::azure_file),
    source("vsphereVolume", |at, _, errors| at.at("volumePath").require_text(errors)),
    source("photonPersistentDisk", |at, _, errors| at.at("pdID").require_text(errors)),
    source("portworxVolume", |at, _, errors| at.at("volumeID").require_text(errors)),
    source("azureDisk", |at, _, errors| disks::azure_disk(at, errors)),
    source("storageos", |at, _, errors| disks::storage_os(at, errors)),
    source("projected", projected::validate),
    source("scaleIO", |at, _, errors| disks::scale_io(at, errors)),
    source("csi", common::csi),
    source("ephemeral", common::ephemeral),
    source("image", common::image),
];

/// Everything wrong with `volumes` of a spec; what is right goes to the containers' rules.
pub fn validate<'a>(spec: &At<'a>, owner: &Owner<'_>, errors: &mut ErrorList) -> Known<'a> {
    let pod = owner.pod_name();
    let created: BTreeSet<String> = spec
        .list("volumes")
        .iter()
        .filter(|volume| !pod.is_empty() && volume.get("ephemeral").is_some())
        .map(|volume| format!("{pod}-{}", At::root(volume).text("name")))
        .collect();
    let mut known = Known::new();
    for volume in spec.items("volumes") {
        let name = volume.text("name");
        let mut own = ErrorList::new();
        let at = volume.at("name");
        sources(&volume, &Volume { name: at.clone(), owner }, &mut own);
        at.require(&mut own, names::dns_label);
        if known.contains_key(name) {
            own.push(at.duplicate());
        }
        if own.is_empty() {
            known.insert(name, volume.has("persistentVolumeClaim") || volume.has("ephemeral"));
        }
        errors.extend(own);
        let claim = volume.at("persistentVolumeClaim").at("claimName");
        if created.contains(claim.str()) {
            errors.push(claim.invalid("must not reference a PVC that gets created for an ephemeral volume"));
        }
    }
    known
}

fn sources(volume: &At<'_>, about: &Volume<'_>, errors: &mut ErrorList) {
    let mut found = 0;
    for source in SOURCES.iter().filter(|source| volume.has(source.field)) {
        if found > 0 {
            let at = volume.named(source.field, source.second);
            errors.push(at.forbidden("may not specify more than 1 volume type"));
        } else {
            (source.check)(&volume.named(source.field, source.path), about, errors);
        }
        found += 1;
    }
    if found == 0 {
        errors.push(volume.required("must specify a volume type"));
    }
}

/// A secret's name that a source refers to, when the source refers to one.
pub fn secret_name(at: &At<'_>, namespace: bool, errors: &mut ErrorList) {
    if let Some(secret) = at.some("secretRef") {
        secret.at("name").require_text(errors);
        if namespace {
            secret.at("namespace").require_text(errors);
        }
    }
}
