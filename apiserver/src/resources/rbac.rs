//! The RBAC group: roles and who has them.

mod binding;
mod role;

pub use binding::Binding;
pub use role::Role;

const GROUP: &str = "rbac.authorization.k8s.io";
