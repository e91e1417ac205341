//! Seccomp profiles as files: the format of Docker, which is that of the OCI runtime spec with conditions.

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp};
use serde::Deserialize;

use crate::spec::{Error, Result, capabilities};

/// A profile with its conditions decided.
#[derive(Debug)]
pub struct Document {
    pub default_action: ScmpAction,
    pub rules: Vec<Rule>,
}

#[derive(Debug)]
pub struct Rule {
    pub names: Vec<String>,
    pub action: ScmpAction,
    pub arguments: Vec<ScmpArgCompare>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<i32>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    #[serde(default)]
    names: Vec<String>,
    /// The form before there was `names`.
    name: Option<String>,
    action: String,
    errno_ret: Option<i32>,
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

impl Condition {
    fn has_capability(&self, mask: u64) -> bool {
        let held: Vec<String> = capabilities::names(mask).collect();
        self.caps.iter().any(|name| held.contains(name))
    }

    fn has_architecture(&self) -> bool {
        self.arches.contains(&crate::image::manifest::Platform::host().architecture)
    }

    fn includes(&self, mask: u64) -> bool {
        (self.caps.is_empty() || self.has_capability(mask))
            && (self.arches.is_empty() || self.has_architecture())
    }

    fn excludes(&self, mask: u64) -> bool {
        self.has_capability(mask) || self.has_architecture()
    }
}

impl Document {
    /// Conditions are decided by the container's capabilities and this machine's architecture.
    pub fn parse(text: &str, mask: u64) -> Result<Self> {
        let file: File = serde_json::from_str(text)
            .map_err(|error| Error::Invalid(format!("seccomp profile: {error}")))?;
        let rules = file
            .syscalls
            .into_iter()
            .filter(|rule| rule.includes.includes(mask) && !rule.excludes.excludes(mask))
            .map(|rule| {
                Ok(Rule {
                    action: action(&rule.action, rule.errno_ret)?,
                    arguments: rule.args.unwrap_or_default().iter().map(argument).collect::<Result<_>>()?,
                    names: rule.names.into_iter().chain(rule.name).collect(),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Document { default_action: action(&file.default_action, file.default_errno_ret)?, rules })
    }
}

fn action(name: &str, errno: Option<i32>) -> Result<ScmpAction> {
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno.unwrap_or(libc::EPERM)),
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_TRACE" => ScmpAction::Trace(errno.unwrap_or(libc::EPERM) as u16),
        other => return Err(Error::Invalid(format!("seccomp profile: unknown action {other:?}"))),
    })
}

fn argument(argument: &Argument) -> Result<ScmpArgCompare> {
    let (value, op) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (argument.value, ScmpCompareOp::NotEqual),
        "SCMP_CMP_LT" => (argument.value, ScmpCompareOp::Less),
        "SCMP_CMP_LE" => (argument.value, ScmpCompareOp::LessOrEqual),
        "SCMP_CMP_EQ" => (argument.value, ScmpCompareOp::Equal),
        "SCMP_CMP_GE" => (argument.value, ScmpCompareOp::GreaterEqual),
        "SCMP_CMP_GT" => (argument.value, ScmpCompareOp::Greater),
        // The first value is the mask, the second what is compared with.
        "SCMP_CMP_MASKED_EQ" => (argument.value_two, ScmpCompareOp::MaskedEqual(argument.value)),
        other => return Err(Error::Invalid(format!("seccomp profile: unknown comparison {other:?}"))),
    };
    if argument.index > 5 {
        return Err(Error::Invalid(format!("seccomp profile: no argument has index {}", argument.index)));
    }
    Ok(ScmpArgCompare::new(argument.index, op, value))
}
