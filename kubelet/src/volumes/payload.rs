//! Files to be shown in a volume, before they are written.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret};

use super::VolumeError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Owner, for tokens that only one user may read.
    pub uid: Option<u32>,
}

/// By path relative to the volume.
pub type Payload = BTreeMap<String, File>;

pub fn mode(given: Option<i32>, default: u32) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default) & 0o7777
}

/// Refuses paths that leave the volume or clash with our own names in it.
pub fn check_path(path: &str) -> Result<(), VolumeError> {
    let invalid = |why: &str| Err(VolumeError::Invalid(format!("invalid path {path:?}: {why}")));
    if path.is_empty() {
        return invalid("must not be empty");
    }
    if path.len() > 4096 {
        return invalid("must be less than or equal to 4096 characters");
    }
    let parsed = Path::new(path);
    if parsed.is_absolute() {
        return invalid("must be relative path");
    }
    if parsed.components().any(|c| matches!(c, Component::ParentDir)) {
        return invalid("must not contain '..'");
    }
    if path.starts_with("..") {
        return invalid("must not start with '..'");
    }
    if parsed.components().any(|c| c.as_os_str().len() > 255) {
        return invalid("a path segment is longer than 255 characters");
    }
    Ok(())
}

fn pick(
    all: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
    kind: &'static str,
) -> Result<Payload, VolumeError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(all
            .into_iter()
            .map(|(key, data)| (key, File { data, mode: default_mode, uid: None }))
            .collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match all.get(&item.key) {
            Some(data) => {
                let file = File { data: data.clone(), mode: mode(item.mode, default_mode), uid: None };
                payload.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => return Err(VolumeError::NoKey { kind, key: item.key.clone() }),
        }
    }
    Ok(payload)
}

fn bytes(map: Option<&BTreeMap<String, ByteString>>) -> impl Iterator<Item = (String, Vec<u8>)> {
    map.into_iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()))
}

/// `None` for an optional ConfigMap that is not there: no files.
pub fn of_config_map(
    object: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let Some(object) = object else { return Ok(Payload::new()) };
    let text = object.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let all = text.chain(bytes(object.binary_data.as_ref())).collect();
    pick(all, items, default_mode, optional, "config")
}

/// `None` for an optional Secret that is not there: no files.
pub fn of_secret(
    object: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let Some(object) = object else { return Ok(Payload::new()) };
    let all = bytes(object.data.as_ref()).collect();
    pick(all, items, default_mode, optional, "secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_out_of_the_volume_are_refused() {
        for bad in ["", "/etc", "../x", "a/../../b", "..data", "..2024"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        for good in ["a", "a/b", ".hidden", "a..b"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn items_choose_keys_and_missing_ones_are_named() {
        let object = ConfigMap {
            data: Some([("a".into(), "1".into()), ("b".into(), "2".into())].into()),
            ..ConfigMap::default()
        };
        let item = |key: &str| KeyToPath {
            key: key.into(),
            path: format!("dir/{key}"),
            mode: Some(0o400),
            ..KeyToPath::default()
        };
        let payload = of_config_map(Some(&object), Some(&[item("a")]), 0o644, false).expect("a is there");
        assert_eq!(payload.keys().collect::<Vec<_>>(), ["dir/a"]);
        assert_eq!(payload["dir/a"].mode, 0o400);
        let error = of_config_map(Some(&object), Some(&[item("c")]), 0o644, false).expect_err("c is not");
        assert_eq!(error.to_string(), "references non-existent config key: c");
        assert!(of_config_map(Some(&object), Some(&[item("c")]), 0o644, true).is_ok());
        assert_eq!(of_config_map(Some(&object), None, 0o644, false).expect("all").len(), 2);
    }
}
