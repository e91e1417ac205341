//! The API server: filters, verbs, registry, watch cache, admission, authentication and authorization.

pub mod request_info;
pub mod user;
