//! Webhook configurations as they are called.

use std::time::Duration;

use knarr_api::selector::Selector;
use serde::Deserialize;
use serde_json::Value;

use crate::admission::matching::{Rule, selector};
use crate::admission::policy::{Condition, Conditions};

const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// One webhook.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    pub name: String,
    pub client_config: Client,
    #[serde(default)]
    pub rules: Vec<Rule>,
    #[serde(default)]
    failure_policy: Option<String>,
    #[serde(default)]
    pub match_policy: Option<String>,
    #[serde(default)]
    namespace_selector: Value,
    #[serde(default)]
    object_selector: Value,
    #[serde(default)]
    admission_review_versions: Vec<String>,
    #[serde(default)]
    side_effects: Option<String>,
    #[serde(default)]
    timeout_seconds: Option<u64>,
    #[serde(default)]
    reinvocation_policy: Option<String>,
    #[serde(default)]
    match_conditions: Vec<Condition>,
    /// The match conditions, compiled when the configuration was read.
    #[serde(skip)]
    pub conditions: Conditions,
    /// Likewise the selectors; an error says why one cannot be used.
    #[serde(skip, default = "everything")]
    pub selectors: Result<Selectors, String>,
    /// The configuration that it is of.
    #[serde(skip)]
    pub configuration: Box<str>,
}

/// A version of the AdmissionReview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// Which objects concern a webhook, by their labels and their namespaces'.
pub struct Selectors {
    pub objects: Selector,
    pub namespaces: Selector,
}

fn everything() -> Result<Selectors, String> {
    Ok(Selectors { objects: Selector::everything(), namespaces: Selector::everything() })
}

/// Where a webhook is, and whom its certificate must be signed by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Client {
    pub url: Option<String>,
    pub service: Option<Service>,
    /// base64 of PEM.
    pub ca_bundle: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
}

impl Hook {
    /// Compiles what is evaluated on every request, and notes where the hook is from.
    pub fn compile(&mut self, configuration: &str) {
        self.configuration = configuration.into();
        self.conditions = Conditions::compile(&self.match_conditions);
        self.selectors = self.compile_selectors();
    }

    fn compile_selectors(&self) -> Result<Selectors, String> {
        let (objects, namespaces) = (selector(&self.object_selector)?, selector(&self.namespace_selector)?);
        Ok(Selectors { objects, namespaces })
    }

    /// The review that it is asked with: the first of its list that is known here.
    pub fn review_version(&self) -> Option<ReviewVersion> {
        self.admission_review_versions.iter().find_map(|version| match version.as_str() {
            "v1" => Some(ReviewVersion::V1),
            "v1beta1" => Some(ReviewVersion::V1Beta1),
            _ => None,
        })
    }

    pub fn ignores_failure(&self) -> bool {
        self.failure_policy.as_deref() == Some("Ignore")
    }

    pub fn supports_dry_run(&self) -> bool {
        matches!(self.side_effects.as_deref(), Some("None" | "NoneOnDryRun"))
    }

    pub fn is_reinvocable(&self) -> bool {
        self.reinvocation_policy.as_deref() == Some("IfNeeded")
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS))
    }

    /// Rules for another version of the same resource are meant too.
    pub fn matches_equivalent(&self) -> bool {
        self.match_policy.as_deref() != Some("Exact")
    }
}
