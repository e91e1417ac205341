//! Webhook configurations as they are called.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::admission::matching::Rule;
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
    pub namespace_selector: Value,
    #[serde(default)]
    pub object_selector: Value,
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
    /// The configuration that it is of.
    #[serde(skip)]
    pub configuration: Box<str>,
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
