//! `knarr store`, as it is written.

use clap::{Args, Subcommand};

use super::{EtcdFlags, Named, StoreKind};

#[derive(Debug, Args)]
pub struct Store {
    #[command(subcommand)]
    pub command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy all that a stopped cluster has stored to another kind of store, prove that nothing was lost, and keep it
    /// there from then on. What was copied from stays as it is.
    #[command(
        after_help = "Example:\n  knarr down\n  knarr store migrate --to etcd --etcd-servers http://127.0.0.1:2379\n  knarr up --store etcd --etcd-servers http://127.0.0.1:2379"
    )]
    Migrate {
        #[arg(long, value_enum)]
        to: StoreKind,
        #[command(flatten)]
        etcd: EtcdFlags,
        #[command(flatten)]
        named: Named,
    },
}
