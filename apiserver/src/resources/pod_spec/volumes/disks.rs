//! Block storage of clouds and storage systems.

use knarr_api::field::ErrorList;
use knarr_api::names;

use super::{Volume, secret_name};
use crate::resources::at::At;

pub const PORTAL_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";

/// A disk of which one partition is mounted; `id` names the disk.
pub fn partitioned(at: &At<'_>, id: &'static str, errors: &mut ErrorList) {
    at.at(id).require_text(errors);
    at.at("partition").check_int(errors, |partition| {
        names::in_range(partition, 0, 255).first().map_or_else(Vec::new, |_| {
            // Upstream accepts zero and says otherwise.
            vec![names::inclusive_range(1, 255)]
        })
    });
}

pub fn iscsi(at: &At<'_>, volume: &Volume<'_>, errors: &mut ErrorList) {
    at.at("targetPortal").require_text(errors);
    let iqn = at.at("iqn");
    if iqn.str().is_empty() {
        errors.push(iqn.required(""));
    } else if let Some(wrong) = iscsi_name(iqn.str()) {
        errors.push(iqn.invalid(wrong));
    }
    at.at("lun").check_int(errors, |lun| names::in_range(lun, 0, 255));
    if (at.flag("chapAuthDiscovery") || at.flag("chapAuthSession")) && !at.has("secretRef") {
        errors.push(at.at("secretRef").required(""));
    }
    let initiator = at.named("initiatorName", "initiatorname");
    if initiator.value().is_some() {
        if let Some(wrong) = iscsi_name(initiator.str()) {
            errors.push(initiator.invalid(wrong));
        }
        if volume.name.str().len() + 1 + at.text("targetPortal").len() > 64 {
            errors.push(volume.name.invalid(PORTAL_TOO_LONG));
        }
    }
}

/// What is wrong with the name of an iSCSI node.
pub fn iscsi_name(name: &str) -> Option<&'static str> {
    let alphanumeric = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric());
    let fits = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        Some("eui") => name.len() == 20 && name.get(4..).is_some_and(alphanumeric),
        Some("naa") => name.len() == 36 && name.get(4..).is_some_and(alphanumeric),
        _ => return Some("must be valid format starting with iqn, eui, or naa"),
    };
    (!fits).then_some("must be valid format")
}

/// `iqn.2001-04.com.example:storage`.
fn is_iqn(name: &str) -> bool {
    let Some((authority, unique)) = name.split_once(':') else { return false };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let dated = authority.len() > 12
        && authority.is_ascii()
        && authority.starts_with("iqn.")
        && digits(&authority[4..8])
        && &authority[8..9] == "-"
        && digits(&authority[9..11])
        && &authority[11..12] == ".";
    dated
        && authority[12..].chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        && !unique.is_empty()
        && !unique
            .contains(|c: char| matches!(c, ',' | ';' | '*' | '&' | '$' | '|') || c.is_ascii_whitespace())
}

pub fn rbd(at: &At<'_>, errors: &mut ErrorList) {
    if at.list("monitors").is_empty() {
        errors.push(at.at("monitors").required(""));
    }
    at.at("image").require_text(errors);
}

pub fn cinder(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    at.at("volumeID").require_text(errors);
    secret_name(at, false, errors);
}

pub fn fc(at: &At<'_>, errors: &mut ErrorList) {
    let names_given = at.filled("targetWWNs");
    let targets = at.at("targetWWNs");
    match (names_given, at.filled("wwids")) {
        (false, false) => {
            errors.push(targets.required("must specify either targetWWNs or wwids, but not both"));
        }
        (true, true) => {
            errors.push(targets.invalid("targetWWNs and wwids can not be specified simultaneously"));
        }
        _ => {}
    }
    if names_given {
        let lun = at.at("lun");
        match lun.value() {
            None => errors.push(lun.required("lun is required if targetWWNs is specified")),
            Some(_) => lun.check_int(errors, |lun| names::in_range(lun, 0, 255)),
        }
    }
}

pub fn azure_disk(at: &At<'_>, errors: &mut ErrorList) {
    at.at("diskName").require_text(errors);
    let uri = at.at("diskURI");
    uri.require_text(errors);
    if let Some(caching) = at.some("cachingMode") {
        caching.one_of(errors, &["None", "ReadOnly", "ReadWrite"]);
    }
    let Some(kind) = at.some("kind") else { return };
    kind.one_of(errors, &["Dedicated", "Managed", "Shared"]);
    let (start, form) = if kind.str() == "Managed" {
        let form =
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        ("/subscriptions/", form)
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if !uri.str().starts_with(start) {
        errors.push(uri.unsupported(&[form]));
    }
}

pub fn storage_os(at: &At<'_>, errors: &mut ErrorList) {
    at.at("volumeName").require(errors, names::dns_label);
    if at.filled("volumeNamespace") {
        at.at("volumeNamespace").check(errors, names::dns_label);
    }
    secret_name(at, false, errors);
}

pub fn scale_io(at: &At<'_>, errors: &mut ErrorList) {
    for field in ["gateway", "system", "volumeName"] {
        at.at(field).require_text(errors);
    }
}

#[cfg(test)]
mod tests {
    use super::iscsi_name;

    #[test]
    fn iscsi_names_have_three_forms() {
        for name in
            ["iqn.2015-02.example.com:test", "eui.0123456789ABCDEF", "naa.62004567BA64678D0123456789ABCDEF"]
        {
            assert_eq!(iscsi_name(name), None, "{name}");
        }
        for name in ["iqn.2015-02.example.com", "iqn.2015-2.example.com:a", "eui.01", "naa.1"] {
            assert_eq!(iscsi_name(name), Some("must be valid format"), "{name}");
        }
        assert!(iscsi_name("x").is_some_and(|wrong| wrong.contains("starting with")));
    }
}
