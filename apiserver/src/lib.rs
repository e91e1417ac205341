//! The API server: filters, verbs, registry, watch cache, admission, authentication and authorization
