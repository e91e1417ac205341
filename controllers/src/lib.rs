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
mod templates;

mod deployment;
mod garbage;
mod namespaces;
mod replicas;

pub use catalogue::{CATALOGUE, Descriptor};
pub use context::{Config, Context};
pub use controllers::Controllers;
pub use error::Error;
