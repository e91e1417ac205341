//! `/version`.

use serde_json::{Value, json};

pub use knarr_api::version::KUBERNETES;
use knarr_api::version::architecture;

/// `v1.37.0+knarr.0.1.0`: what `kubectl version` shows, and nodes report.
pub fn git_version() -> String {
    format!("v{KUBERNETES}+knarr.{}", env!("CARGO_PKG_VERSION"))
}

/// The document.
pub fn document() -> Value {
    json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": git_version(),
        "gitCommit": option_env!("KNARR_COMMIT").unwrap_or_default(),
        "gitTreeState": "clean",
        "buildDate": option_env!("KNARR_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}
