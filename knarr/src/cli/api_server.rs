//! What the operator decides about the API server, under upstream's names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "API server")]
pub struct ApiServer {
    #[command(flatten)]
    pub store: StoreFlags,
    #[command(flatten)]
    pub audit: AuditFlags,
}

/// Where objects are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum StoreKind {
    /// A file in the cluster's directory.
    #[default]
    Embedded,
    /// The servers that --etcd-servers names; several API servers may share them.
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
}

impl ApiServer {
    /// The same flags again, for a server whose current directory is another.
    pub fn to_args(&self) -> std::io::Result<Vec<OsString>> {
        let Self { store, audit } = self;
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
        let AuditFlags {
            audit_policy_file,
            audit_log_path,
            audit_log_maxage,
            audit_log_maxbackup,
            audit_log_maxsize,
        } = audit;
        args.file("--audit-policy-file", audit_policy_file.as_deref())?;
        match audit_log_path.as_deref() {
            Some(standard_output) if standard_output == Path::new("-") => {
                args.text("--audit-log-path", Some("-"))
            }
            file => args.file("--audit-log-path", file)?,
        }
        args.text("--audit-log-maxage", audit_log_maxage.map(|days| days.to_string()));
        args.text("--audit-log-maxbackup", audit_log_maxbackup.map(|count| count.to_string()));
        args.text("--audit-log-maxsize", audit_log_maxsize.map(|size| size.to_string()));
        Ok(args.0)
    }
}

#[derive(Default)]
struct Rendered(Vec<OsString>);

impl Rendered {
    fn text(&mut self, name: &str, value: Option<impl Into<OsString>>) {
        self.0.extend(value.into_iter().flat_map(|value| [name.into(), value.into()]));
    }

    fn file(&mut self, name: &str, file: Option<&Path>) -> std::io::Result<()> {
        self.text(name, file.map(std::path::absolute).transpose()?);
        Ok(())
    }
}
