//! Real links, rules and traffic, in network namespaces that each test makes
//! for itself. Needs root.

#[path = "kernel/api.rs"]
mod api;
#[path = "kernel/destroy.rs"]
mod destroy;
#[path = "kernel/dns.rs"]
mod dns;
#[path = "kernel/nodes.rs"]
mod nodes;
#[path = "kernel/pods.rs"]
mod pods;
#[path = "kernel/policy.rs"]
mod policy;
#[path = "kernel/proxy.rs"]
mod proxy;
#[path = "kernel/services.rs"]
mod services;
#[path = "kernel/support.rs"]
mod support;
