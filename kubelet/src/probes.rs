//! Liveness, readiness and startup probes: one task per probe, results by container id, and what they mean for a
//! pod's status.

pub mod exec;
pub mod grpc;
pub mod http;
pub mod manager;
pub mod results;
pub mod run;
pub mod tcp;
pub mod tls;
pub mod view;
pub mod worker;

pub use manager::ProbeManager;
pub use results::{ProbeKind, ProbeResults};
pub use run::Prober;
pub use view::ProbeView;
