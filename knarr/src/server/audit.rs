//! The audit log, as the flags want it.

use std::sync::Arc;

use anyhow::Context;
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_apiserver::audit::{Auditor, BatchOptions, Batches, LogFile, LogOptions, Policy, Sink, Throttle};

use super::audit_webhook::Webhook;
use crate::cli::{AuditFlags, AuditWebhookFlags, Wait};

/// `None` where nothing is to be told: without a policy, and without anyone to tell.
pub async fn open(
    flags: &AuditFlags,
    clock: &SharedClock,
    random: &SharedRandom,
) -> anyhow::Result<Option<Arc<Auditor>>> {
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
    if let Some(file) = &flags.webhook.audit_webhook_config_file {
        let webhook = Webhook::open(file).await.context("audit webhook")?;
        sinks.push(Arc::new(Batches::start(batches(&flags.webhook), Arc::new(webhook), random.clone())));
    }
    Ok((!sinks.is_empty()).then(|| Arc::new(Auditor::new(policy, sinks))))
}

/// As the flags say, and as upstream does where they say nothing.
fn batches(flags: &AuditWebhookFlags) -> BatchOptions {
    let usual = BatchOptions::default();
    let throttle = usual.throttle.map(|usual| Throttle {
        qps: flags.audit_webhook_batch_throttle_qps.unwrap_or(usual.qps),
        burst: flags.audit_webhook_batch_throttle_burst.unwrap_or(usual.burst),
    });
    BatchOptions {
        buffer_size: flags.audit_webhook_batch_buffer_size.unwrap_or(usual.buffer_size),
        max_size: flags.audit_webhook_batch_max_size.unwrap_or(usual.max_size),
        max_wait: flags.audit_webhook_batch_max_wait.map_or(usual.max_wait, |Wait(wait)| wait),
        throttle: throttle.filter(|_| flags.audit_webhook_batch_throttle_enable.unwrap_or(true)),
        initial_backoff: flags.audit_webhook_initial_backoff.map_or(usual.initial_backoff, |Wait(wait)| wait),
    }
}
