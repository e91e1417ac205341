//! The API server: filters, verbs, registry, watch cache, admission, authentication and authorization.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod loopback;
pub mod objects;
pub mod pki;
pub mod request_info;
pub mod user;
