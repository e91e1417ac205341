//! Which objects an informer holds, as the URL it lists and watches.

use kube::Resource;

/// A resource, narrowed by namespace and selectors; equal selections share one watch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selection {
    prefix: String,
    plural: String,
    namespace: Option<String>,
    labels: Option<String>,
    fields: Option<String>,
    metadata_only: bool,
}

impl Selection {
    /// All objects of a resource in all namespaces; the group of core resources is empty.
    pub fn of(group: &str, version: &str, plural: &str) -> Self {
        let prefix =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        Self {
            prefix,
            plural: plural.to_owned(),
            namespace: None,
            labels: None,
            fields: None,
            metadata_only: false,
        }
    }

    /// All objects of a kind known at compile time.
    pub fn all<K: Resource<DynamicType = ()>>() -> Self {
        Self::of(&K::group(&()), &K::version(&()), &K::plural(&()))
    }

    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// A label selector in its written form.
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// A field selector in its written form, as `spec.nodeName=a`.
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Ask the server for `PartialObjectMetadata` only.
    pub fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }

    pub(super) fn is_metadata_only(&self) -> bool {
        self.metadata_only
    }

    pub(super) fn url(&self, parameters: &[(&str, &str)]) -> String {
        let mut url = match &self.namespace {
            Some(namespace) => format!("{}/namespaces/{namespace}/{}?", self.prefix, self.plural),
            None => format!("{}/{}?", self.prefix, self.plural),
        };
        let selectors = [("labelSelector", &self.labels), ("fieldSelector", &self.fields)];
        let selectors = selectors.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        for (name, value) in selectors.chain(parameters.iter().copied()) {
            url.push_str(name);
            url.push('=');
            escape_into(&mut url, value);
            url.push('&');
        }
        url.pop();
        url
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url(&[]))
    }
}

/// Percent-encodes everything a query value may not hold as itself.
fn escape_into(out: &mut String, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn url_carries_namespace_selectors_and_parameters() {
        assert_eq!(Selection::all::<Pod>().url(&[]), "/api/v1/pods");
        assert_eq!(
            Selection::of("apps", "v1", "deployments")
                .in_namespace("a")
                .labels("x in (1,2)")
                .url(&[("watch", "1")]),
            "/apis/apps/v1/namespaces/a/deployments?labelSelector=x%20in%20%281%2C2%29&watch=1"
        );
    }
}
