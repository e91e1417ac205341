//! `knarr snapshot`, as it is written.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Named;

#[derive(Debug, Args)]
pub struct Snapshot {
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save what a running cluster has stored to a new file. Secrets stay encrypted in it: keep the cluster's
    /// encryption.yaml, too.
    #[command(after_help = "Example:\n  knarr snapshot save monday.snapshot")]
    Save {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        named: Named,
    },
    /// Bring a stopped cluster back to a snapshot. What it had is kept beside it until the next restore.
    #[command(
        after_help = "Example:\n  knarr down --pods\n  knarr snapshot restore monday.snapshot\n  knarr up"
    )]
    Restore {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        named: Named,
    },
    /// Show what a snapshot holds: revision, keys, bytes, hash.
    #[command(after_help = "Example:\n  knarr snapshot info monday.snapshot")]
    Info {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}
