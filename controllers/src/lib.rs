//! The built-in controllers: one folder or file each, and one line each in the [`catalogue`].
//!
//! A controller registers with the shared informers which of their changes matter to which key, and reconciles
//! one key at a time. Everything it writes goes through the API under its own service account.
//!
//! [`Controllers::build`] wires all of them up, [`Controllers::run`] runs them until shutdown.

mod catalogue;
mod context;
mod controllers;
mod discovery;
mod error;

mod pods;
mod revisions;
mod services;
mod templates;
mod wiring;

mod autoscaling;
mod bootstrap_tokens;
mod certificates;
mod cluster_roles;
mod cron_jobs;
mod daemon_sets;
mod deployment;
mod disruption;
mod endpoint_mirroring;
mod endpoint_slices;
mod endpoints;
mod garbage;
mod jobs;
mod load_balancers;
mod namespaces;
mod nodes;
mod pod_garbage;
mod quota;
mod replicas;
mod resource_claims;
mod service_accounts;
mod service_cidrs;
mod stateful_sets;
mod ttl_after_finished;
mod volumes;

pub use catalogue::{Account, CATALOGUE, Descriptor};
pub use certificates::{AuthorityError, SigningAuthority};
pub use context::{Config, Context, LocalStorage, NodesConfig, PodRange};
pub use controllers::Controllers;
pub use error::Error;
pub use service_accounts::TokenSigner;
pub use volumes::provisioner::{PROVISIONER, STORAGE_PATH};
