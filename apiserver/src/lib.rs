//! The API server: filters, verbs, registry, watch cache, admission, authentication and authorization.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod cache;
pub mod catalogue;
pub mod context;
mod conversion;
mod defaults;
mod discovery;
mod filters;
pub mod handlers;
pub mod health;
pub mod loopback;
pub mod metrics;
mod object;
pub mod objects;
pub mod pki;
pub mod registry;
pub mod request_info;
mod resources;
pub mod server;
pub mod stored;
pub mod stream;
pub mod user;
pub mod version;
