//! The node agent: runs the pods that are bound to its node, and tells the API how they are.
//!
//! * [`kubelet`]: building an agent from its parts and running it; [`config`] is what the binary tells it.
//! * [`pod`]: one worker per pod, and everything it does to containers.
//! * [`status`]: a pod's status, computed and written.
//! * [`probes`], [`lifecycle`], [`volumes`], [`images`], [`resources`]: what pods ask for; [`resize`] when they ask anew.
//! * [`stats`]: what everything uses; [`eviction`]: what happens when the node runs short.
//! * [`plugins`]: what registers itself with the agent; [`csi`]: storage drivers, which do.
//! * [`node`]: the Node object, its status and its Lease.
//! * [`server`]: the node's HTTPS server (logs, exec, port-forward, metrics); [`logs`] reads and rotates log files.
//! * [`grpc`]: how plugins and probes are called.
//! * [`sim`]: a runtime without a kernel, for simulated nodes and tests.

pub mod agent;
pub mod config;
pub mod csi;
pub mod events;
pub mod eviction;
pub mod grpc;
pub mod images;
pub mod kubelet;
pub mod lifecycle;
pub mod logs;
pub mod node;
pub mod objects;
pub mod plugins;
pub mod pod;
pub mod probes;
pub mod resize;
pub mod resources;
pub mod server;
pub mod sim;
pub mod stats;
pub mod status;
pub mod volumes;

pub use config::Config;
pub use kubelet::{Kubelet, Parts};
