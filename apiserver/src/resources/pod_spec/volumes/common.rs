//! Sources that every cluster has.

use knarr_api::field::ErrorList;
use knarr_api::names;

use super::Volume;
use crate::resources::at::At;
use crate::resources::core::persistent_volume_claim;
use crate::resources::pod_spec::{containers, env, paths};

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

pub fn empty_dir(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    let limit = at.at("sizeLimit");
    if limit.quantity().is_some_and(|size| size.is_negative()) {
        errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
    }
}

pub fn host_path(at: &At<'_>, errors: &mut ErrorList) {
    let path = at.at("path");
    if path.str().is_empty() {
        errors.push(path.required(""));
        return;
    }
    paths::no_backsteps(&path, errors);
    if let Some(kind) = at.some("type") {
        kind.one_of(errors, &HOST_PATH_TYPES);
    }
}

pub fn git_repo(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    at.at("repository").require_text(errors);
    paths::descending(&at.at("directory"), errors);
}

pub fn secret(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    at.at("secretName").require_text(errors);
    keys(at, errors);
}

pub fn config_map(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    at.at("name").require_text(errors);
    keys(at, errors);
}

fn keys(at: &At<'_>, errors: &mut ErrorList) {
    paths::mode(&at.at("defaultMode"), errors);
    at.items("items").for_each(|item| key_to_path(&item, errors));
}

pub fn key_to_path(item: &At<'_>, errors: &mut ErrorList) {
    item.at("key").require_text(errors);
    let path = item.at("path");
    path.require_text(errors);
    paths::non_reserved(&path, errors);
    paths::mode(&item.at("mode"), errors);
}

pub fn downward_api(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    paths::mode(&at.at("defaultMode"), errors);
    for file in at.list("items") {
        downward_file(&At::new(Some(file), at.path().clone()), errors);
    }
}

/// A file of the downward API; upstream names the list, not the item, as the place of its faults.
pub fn downward_file(file: &At<'_>, errors: &mut ErrorList) {
    let path = file.at("path");
    path.require_text(errors);
    paths::non_reserved(&path, errors);
    match (file.some("fieldRef"), file.some("resourceFieldRef")) {
        (Some(field), resource) => {
            env::field_ref(&field, &FIELDS, errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(file.invalid_as("resource", detail));
            }
        }
        (None, Some(resource)) => env::resource_field_ref(&resource, true, errors),
        (None, None) => errors.push(file.required("one of fieldRef and resourceFieldRef is required")),
    }
    paths::mode(&file.at("mode"), errors);
}

/// The name of a CSI driver; `at` is where it stands.
pub fn csi_driver_name(at: &At<'_>, errors: &mut ErrorList) {
    if at.str().is_empty() {
        errors.push(at.required(""));
        return;
    }
    if at.str().len() > 63 {
        errors.push(knarr_api::field::Error::too_long(at.path(), 63));
    }
    at.check(errors, |name| names::dns_subdomain(&name.to_lowercase()));
}

pub fn csi(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    csi_driver_name(&at.at("driver"), errors);
    if let Some(secret) = at.some("nodePublishSecretRef") {
        let name = secret.at("name");
        if name.str().is_empty() {
            errors.push(name.required(""));
        } else {
            let name = At::new(name.value(), at.path().child("name"));
            name.check(errors, names::dns_subdomain);
        }
    }
}

pub fn ephemeral(at: &At<'_>, volume: &Volume<'_>, errors: &mut ErrorList) {
    let template = at.at("volumeClaimTemplate");
    if template.value().is_none() {
        errors.push(template.required(""));
    } else {
        persistent_volume_claim::validate_template(&template, errors);
    }
    let pod = volume.owner.pod_name();
    if !pod.is_empty() && !volume.name.str().is_empty() {
        let claim = format!("{pod}-{}", volume.name.str());
        let wrong = names::dns_subdomain(&claim).into_iter();
        errors.extend(wrong.map(|wrong| volume.name.invalid(format!("PVC name {claim:?}: {wrong}"))));
    }
}

pub fn image(at: &At<'_>, volume: &Volume<'_>, errors: &mut ErrorList) {
    if volume.owner.is_pod() {
        at.at("reference").require_text(errors);
    }
    containers::pull_policy(&at.at("pullPolicy"), errors);
}
