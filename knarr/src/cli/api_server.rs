//! What the operator decides about the API server, under upstream's names.

mod authentication;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

pub use authentication::{AuthenticationFlags, OidcFlags};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "API server")]
pub struct ApiServer {
    #[command(flatten)]
    pub store: StoreFlags,
    #[command(flatten)]
    pub authentication: AuthenticationFlags,
    #[command(flatten)]
    pub audit: AuditFlags,
}

/// Where objects are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum StoreKind {
    /// A file in the cluster's directory.
    #[default]
    Embedded,
    /// The servers that --etcd-servers names.
    Etcd,
}

#[derive(Debug, Clone, Default, Args)]
pub struct StoreFlags {
    /// Where objects are kept [default: where they are; at first, embedded].
    #[arg(long, value_enum)]
    pub store: Option<StoreKind>,
    #[command(flatten)]
    pub etcd: EtcdFlags,
}

#[derive(Debug, Clone, Default, Args)]
pub struct EtcdFlags {
    /// etcd's servers, each a URL.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// The authority that issued etcd's certificates.
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate that is shown to etcd.
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of --etcd-certfile.
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// What all keys in etcd begin with [default: /registry].
    #[arg(long, value_name = "PREFIX")]
    pub etcd_prefix: Option<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct AuditFlags {
    /// Which requests are told to the audit backends, and how much of them.
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// The file that audit events are written to; - is standard output.
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// How many days old log files are kept [default: 0, for ever].
    #[arg(long, value_name = "DAYS")]
    pub audit_log_maxage: Option<u32>,
    /// How many old log files are kept [default: 0, all].
    #[arg(long, value_name = "N")]
    pub audit_log_maxbackup: Option<u32>,
    /// How many megabytes a log file may have [default: 0, which means 100].
    #[arg(long, value_name = "MB")]
    pub audit_log_maxsize: Option<u32>,
    #[command(flatten)]
    pub webhook: AuditWebhookFlags,
}

/// A server that audit events are posted to, in batches.
#[derive(Debug, Clone, Default, Args)]
pub struct AuditWebhookFlags {
    /// A kubeconfig that names the server which audit events are posted to.
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// How long to wait before a batch that was not taken is sent again [default: 10s].
    #[arg(long, value_name = "DURATION")]
    pub audit_webhook_initial_backoff: Option<Wait>,
    /// How many events may wait [default: 10000].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub audit_webhook_batch_buffer_size: Option<usize>,
    /// How many events a batch has at most [default: 400].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub audit_webhook_batch_max_size: Option<usize>,
    /// How long an event waits for others at most [default: 30s].
    #[arg(long, value_name = "DURATION")]
    pub audit_webhook_batch_max_wait: Option<Wait>,
    /// Whether batches are limited in number [default: true].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub audit_webhook_batch_throttle_enable: Option<bool>,
    /// Batches per second on average [default: 10].
    #[arg(long, value_name = "QPS", value_parser = rate)]
    pub audit_webhook_batch_throttle_qps: Option<f64>,
    /// Batches at once [default: 15].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub audit_webhook_batch_throttle_burst: Option<u32>,
}

/// A duration as upstream's flags take it: `10s`, `1m30s`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
        let wait = Duration::try_from(span).map_err(|_| "must not be negative".to_owned())?;
        Ok(Self(wait))
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be a number above 0".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "must be a number above 0".to_owned())
}

impl ApiServer {
    /// The same flags again, for a server whose current directory is another.
    pub fn to_args(&self) -> std::io::Result<Vec<OsString>> {
        let Self { store, authentication, audit } = self;
        let mut args = Rendered::default();
        let StoreFlags { store, etcd } = store;
        let kind = store.and_then(|kind| kind.to_possible_value());
        args.text("--store", kind.as_ref().map(|kind| kind.get_name()));
        let EtcdFlags { etcd_servers, etcd_cafile, etcd_certfile, etcd_keyfile, etcd_prefix } = etcd;
        let servers = (!etcd_servers.is_empty()).then(|| etcd_servers.join(","));
        args.text("--etcd-servers", servers);
        args.file("--etcd-cafile", etcd_cafile.as_deref())?;
        args.file("--etcd-certfile", etcd_certfile.as_deref())?;
        args.file("--etcd-keyfile", etcd_keyfile.as_deref())?;
        args.text("--etcd-prefix", etcd_prefix.as_ref());
        authentication.render(&mut args)?;
        let AuditFlags {
            audit_policy_file,
            audit_log_path,
            audit_log_maxage,
            audit_log_maxbackup,
            audit_log_maxsize,
            webhook,
        } = audit;
        args.file("--audit-policy-file", audit_policy_file.as_deref())?;
        match audit_log_path.as_deref() {
            Some(standard_output) if standard_output == Path::new("-") => {
                args.text("--audit-log-path", Some("-"))
            }
            file => args.file("--audit-log-path", file)?,
        }
        args.shown("--audit-log-maxage", *audit_log_maxage);
        args.shown("--audit-log-maxbackup", *audit_log_maxbackup);
        args.shown("--audit-log-maxsize", *audit_log_maxsize);
        let AuditWebhookFlags {
            audit_webhook_config_file,
            audit_webhook_initial_backoff,
            audit_webhook_batch_buffer_size,
            audit_webhook_batch_max_size,
            audit_webhook_batch_max_wait,
            audit_webhook_batch_throttle_enable,
            audit_webhook_batch_throttle_qps,
            audit_webhook_batch_throttle_burst,
        } = webhook;
        args.file("--audit-webhook-config-file", audit_webhook_config_file.as_deref())?;
        args.shown("--audit-webhook-initial-backoff", *audit_webhook_initial_backoff);
        args.shown("--audit-webhook-batch-buffer-size", *audit_webhook_batch_buffer_size);
        args.shown("--audit-webhook-batch-max-size", *audit_webhook_batch_max_size);
        args.shown("--audit-webhook-batch-max-wait", *audit_webhook_batch_max_wait);
        args.shown("--audit-webhook-batch-throttle-enable", *audit_webhook_batch_throttle_enable);
        args.shown("--audit-webhook-batch-throttle-qps", *audit_webhook_batch_throttle_qps);
        args.shown("--audit-webhook-batch-throttle-burst", *audit_webhook_batch_throttle_burst);
        Ok(args.0)
    }
}

#[derive(Default)]
struct Rendered(Vec<OsString>);

impl Rendered {
    fn text(&mut self, name: &str, value: Option<impl Into<OsString>>) {
        self.0.extend(value.into_iter().flat_map(|value| [name.into(), value.into()]));
    }

    fn shown(&mut self, name: &str, value: Option<impl ToString>) {
        self.text(name, value.map(|value| value.to_string()));
    }

    fn file(&mut self, name: &str, file: Option<&Path>) -> std::io::Result<()> {
        self.text(name, file.map(std::path::absolute).transpose()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        api_server: ApiServer,
    }

    fn parsed(args: &[OsString]) -> Result<ApiServer, clap::Error> {
        let args = [OsString::from("knarr")].into_iter().chain(args.iter().cloned());
        Flags::try_parse_from(args).map(|flags| flags.api_server)
    }

    #[test]
    fn what_is_handed_on_to_the_server_means_the_same_there() {
        let given = [
            "--authentication-config=/a.yaml",
            "--anonymous-auth=false",
            "--oidc-issuer-url=https://issuer.example.com",
            "--oidc-ca-file=/ca.pem",
            "--oidc-username-prefix=-",
            "--oidc-required-claim=hd=example.com",
            "--oidc-required-claim=level=a=b",
            "--oidc-signing-algs=RS256,ES256",
            "--audit-policy-file=/p.yaml",
            "--audit-webhook-config-file=/hook.kubeconfig",
            "--audit-webhook-initial-backoff=1m30s",
            "--audit-webhook-batch-max-wait=500ms",
            "--audit-webhook-batch-max-size=5",
            "--audit-webhook-batch-throttle-enable=false",
            "--audit-webhook-batch-throttle-qps=0.5",
        ];
        let first = parsed(&given.map(OsString::from)).expect("flags");
        let handed = first.to_args().expect("absolute paths");
        let second = parsed(&handed).expect("the same flags");
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        let webhook = second.audit.webhook;
        assert_eq!(webhook.audit_webhook_initial_backoff, Some(Wait(Duration::from_secs(90))));
        assert_eq!(webhook.audit_webhook_batch_max_wait, Some(Wait(Duration::from_millis(500))));
    }

    #[test]
    fn values_that_would_stop_everything_are_refused() {
        for flag in [
            "--audit-webhook-batch-max-size=0",
            "--audit-webhook-batch-throttle-qps=0",
            "--audit-webhook-batch-throttle-qps=inf",
            "--audit-webhook-batch-throttle-burst=0",
            "--audit-webhook-initial-backoff=-1s",
            "--audit-webhook-initial-backoff=soon",
            "--oidc-required-claim=hd",
        ] {
            assert!(parsed(&[flag.into()]).is_err(), "{flag}");
        }
    }
}
