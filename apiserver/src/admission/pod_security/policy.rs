//! Levels and versions, and what a namespace's labels say of them.

use std::fmt;

use knarr_api::status::Cause;
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A minor version of Kubernetes 1, or the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Minor(u32),
    Latest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// The three modes of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

const DEFAULT: LevelVersion = LevelVersion { level: Level::Privileged, version: Version::Latest };

fn parse_level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn parse_version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor == "0" || !minor.starts_with('0');
    (plain && minor.bytes().all(|b| b.is_ascii_digit())).then(|| minor.parse().ok().map(Version::Minor))?
}

struct Labels<'a> {
    labels: &'a Value,
    errors: Vec<Cause>,
}

impl Labels<'_> {
    /// A label's value: `None` without the label, `Some(None)` when it does not parse.
    fn read<T>(&mut self, name: &str, parse: fn(&str) -> Option<T>, allowed: &str) -> Option<Option<T>> {
        let value = self.labels.get(format!("pod-security.kubernetes.io/{name}"))?.as_str()?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.errors.push(Cause::new(
                "FieldValueInvalid",
                format!("metadata.labels[pod-security.kubernetes.io/{name}]"),
                format!("Invalid value: {value:?}: {allowed}"),
            ));
        }
        Some(parsed)
    }

    fn level(&mut self, name: &str) -> Option<Option<Level>> {
        self.read(name, parse_level, "must be one of privileged, baseline, restricted")
    }

    fn version(&mut self, name: &str) -> Option<Option<Version>> {
        self.read(name, parse_version, "must be \"latest\" or \"v1.x\"")
    }
}

impl Policy {
    /// The policy that labels describe, and what is wrong with them. What does not parse is strict for enforcing and
    /// lenient for the rest.
    pub fn of(labels: &Value) -> (Self, Vec<Cause>) {
        let mut labels = Labels { labels, errors: Vec::new() };
        let mut policy = Self { enforce: DEFAULT, audit: DEFAULT, warn: DEFAULT };
        let enforce = labels.level("enforce");
        let enforce_version = labels.version("enforce-version");
        policy.enforce = LevelVersion {
            level: enforce.map_or(Level::Privileged, |level| level.unwrap_or(Level::Restricted)),
            version: enforce_version.flatten().unwrap_or(Version::Latest),
        };
        policy.audit.level = labels.level("audit").flatten().unwrap_or(Level::Privileged);
        policy.audit.version = labels.version("audit-version").flatten().unwrap_or(Version::Latest);
        let (warn, warn_version) = (labels.level("warn"), labels.version("warn-version"));
        policy.warn.level = warn.flatten().unwrap_or(Level::Privileged);
        policy.warn.version = warn_version.flatten().unwrap_or(Version::Latest);
        // Whoever enforces more than they warn of wants to be warned of it too.
        let explicit = enforce.is_some_and(|level| level.is_some());
        if warn.is_none() && explicit && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if warn_version.is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, labels.errors)
    }

    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_become_a_policy() {
        let (policy, errors) = Policy::of(&json!({
            "pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/enforce-version": "v1.30",
        }));
        assert!(errors.is_empty());
        assert_eq!(policy.enforce.to_string(), "baseline:v1.30");
        assert_eq!(policy.warn.to_string(), "baseline:v1.30", "warned as enforced");
        assert_eq!(policy.audit.to_string(), "privileged:latest");
        let (policy, errors) = Policy::of(&json!({"pod-security.kubernetes.io/enforce": "strict"}));
        assert_eq!(policy.enforce.level, Level::Restricted);
        assert_eq!(errors[0].field, "metadata.labels[pod-security.kubernetes.io/enforce]");
        assert!(Policy::of(&Value::Null).0.is_privileged());
    }
}
