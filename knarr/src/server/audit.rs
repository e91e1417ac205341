//! The audit log, as the flags want it.

use std::sync::Arc;

use anyhow::Context;
use knarr_api::time::SharedClock;
use knarr_apiserver::audit::{Auditor, LogFile, LogOptions, Policy, Sink};

use crate::cli::AuditFlags;

/// `None` where nothing is to be told: without a policy, and without anyone to tell.
pub fn open(flags: &AuditFlags, clock: &SharedClock) -> anyhow::Result<Option<Arc<Auditor>>> {
    let Some(file) = &flags.audit_policy_file else { return Ok(None) };
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let policy =
        Policy::parse(&text).with_context(|| format!("loading audit policy file {}", file.display()))?;
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    if let Some(path) = &flags.audit_log_path {
        let options = LogOptions {
            path: path.clone(),
            max_age_days: flags.audit_log_maxage.unwrap_or_default(),
            max_backups: flags.audit_log_maxbackup.unwrap_or_default(),
            max_size_megabytes: flags.audit_log_maxsize.unwrap_or_default(),
        };
        let log = LogFile::open(options, clock.clone());
        sinks.push(Arc::new(log.with_context(|| format!("opening {}", path.display()))?));
    }
    Ok((!sinks.is_empty()).then(|| Arc::new(Auditor::new(policy, sinks))))
}
