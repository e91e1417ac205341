//! Webhook configurations as they are called.

use std::time::Duration;

use knarr_api::selector::Selector;
use serde::Deserialize;
use serde_json::Value;

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
    side_effects: Option<String>,
    #[serde(default)]
    timeout_seconds: Option<u64>,
    #[serde(default)]
    reinvocation_policy: Option<String>,
    #[serde(default)]
    pub match_conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Client {
    pub url: Option<String>,
    pub service: Option<Service>,
    /// base64 of PEM.
    pub ca_bundle: Option<String>,
}

#[derive(Deserialize)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub operations: Vec<String>,
    pub api_groups: Vec<String>,
    pub api_versions: Vec<String>,
    pub resources: Vec<String>,
    pub scope: Option<String>,
}

#[derive(Deserialize)]
pub struct Condition {
    pub name: String,
    pub expression: String,
}

impl Hook {
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

    pub fn namespace_selector(&self) -> Result<Selector, String> {
        selector(&self.namespace_selector)
    }

    pub fn object_selector(&self) -> Result<Selector, String> {
        selector(&self.object_selector)
    }
}

/// Without a selector everything is selected; `from_label_selector` would select nothing.
fn selector(of: &Value) -> Result<Selector, String> {
    let empty = Value::Object(serde_json::Map::new());
    let of = if of.is_null() { &empty } else { of };
    Selector::from_label_selector(Some(of)).map_err(|error| error.to_string())
}
