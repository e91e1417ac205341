//! The object and schema engine: everything that can be said about a Kubernetes object without a network, a
//! disk or a clock. Pure: no async, no I/O, no HTTP framework.

pub mod status;
pub mod field;
pub mod time;
