//! Objects of which only the labels matter, or only whom they select.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use knarr_api::selector::Selector;
use knarr_client::cached_by_metadata;
use serde::Deserialize;

use crate::object::{Labels, Meta};

/// A namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labelled {
    pub metadata: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wire {
    metadata: Meta,
    spec: WireSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireSpec {
    selector: WireSelector,
}

/// Workloads have label selectors; Services and ReplicationControllers plain labels, which may have any names.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireSelector {
    Labels(Labels),
    Selector(LabelSelector),
}

impl Default for WireSelector {
    fn default() -> Self {
        Self::Labels(Labels::new())
    }
}

/// A Service, or a workload that owns pods.
#[derive(Debug, Deserialize)]
#[serde(from = "Wire")]
pub struct Selecting {
    pub metadata: Meta,
    pub selector: Selector,
}

impl Selecting {
    /// One that names no labels selects nothing.
    pub fn selects(&self, labels: &Labels) -> bool {
        !self.selector.is_everything() && self.selector.matches(labels)
    }
}

impl From<Wire> for Selecting {
    fn from(wire: Wire) -> Self {
        let selector = match &wire.spec.selector {
            WireSelector::Labels(labels) => {
                Selector::from_set(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            }
            WireSelector::Selector(selector) => Selector::try_from(selector).unwrap_or(Selector::Nothing),
        };
        Self { metadata: wire.metadata, selector }
    }
}

cached_by_metadata!(Labelled);
cached_by_metadata!(Selecting);
