//! Naming pod templates by their content, and telling whether two are the same.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::Serialize;

/// The label that tells the pods of one template from those of another.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// A short name for a template, safe in names and labels; `collisions` gives another one.
///
/// Stable as long as the written form of the template is: the value is not upstream's, which hashes how Go
/// prints its types.
pub(crate) fn hash<T: Serialize>(content: &T, collisions: Option<i32>) -> String {
    let mut hasher = Fnv32a::default();
    // The sink never fails, and API types always have a written form.
    serde_json::to_writer(&mut hasher, content).expect("API types are representable as JSON");
    if let Some(collisions) = collisions {
        hasher.update(&collisions.to_le_bytes());
    }
    safe_encode(&hasher.0.to_string())
}

struct Fnv32a(u32);

impl Default for Fnv32a {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv32a {
    fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
}

impl std::io::Write for Fnv32a {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Maps each byte to a letter or digit that cannot spell anything.
fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// Whether two templates make the same pods, whatever their hash label says.
pub(crate) fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a.spec == b.spec && {
        let (a, b) = (a.metadata.as_ref(), b.metadata.as_ref());
        let labels = |meta: Option<&kube::api::ObjectMeta>| {
            meta.and_then(|meta| meta.labels.clone()).map(without_hash).unwrap_or_default()
        };
        let annotations = |meta: Option<&kube::api::ObjectMeta>| {
            meta.and_then(|meta| meta.annotations.clone()).unwrap_or_default()
        };
        let finalizers = |meta: Option<&kube::api::ObjectMeta>| {
            meta.and_then(|meta| meta.finalizers.clone()).unwrap_or_default()
        };
        labels(a) == labels(b) && annotations(a) == annotations(b) && finalizers(a) == finalizers(b)
    }
}

fn without_hash(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.remove(HASH_LABEL);
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(labels: &[(&str, &str)]) -> PodTemplateSpec {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        PodTemplateSpec {
            metadata: Some(kube::api::ObjectMeta { labels: Some(labels), ..Default::default() }),
            spec: None,
        }
    }

    #[test]
    fn the_hash_is_stable_and_changes_with_content_and_collisions() {
        let web = template(&[("app", "web")]);
        assert_eq!(hash(&web, None), hash(&web.clone(), None));
        assert_ne!(hash(&web, None), hash(&template(&[("app", "db")]), None));
        assert_ne!(hash(&web, None), hash(&web, Some(1)));
        assert!(hash(&web, None).bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }

    #[test]
    fn templates_are_the_same_whatever_the_hash_label() {
        let web = template(&[("app", "web")]);
        assert!(same(&web, &template(&[("app", "web"), (HASH_LABEL, "x")])));
        assert!(!same(&web, &template(&[("app", "db")])));
        assert!(same(&PodTemplateSpec::default(), &template(&[])));
    }
}
