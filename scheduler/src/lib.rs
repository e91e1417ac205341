//! The scheduler: which node runs which pod.
//!
//! ```text
//!  informers ──► mailbox ──► cluster: nodes and their pods, counts, other objects, kept incrementally
//!                        └─► queue: active, backing off, unschedulable ──► cycle: filter, score, assume
//!                                                                              ├─► bind, on a task of its own
//!                                                                              └─► nothing fits: preemption
//! ```
//!
//! One task owns the state and decides; nothing in a decision waits or locks. Binding is a request to the API
//! server and runs beside the next decisions: an assumed pod counts on its node until the binding fails.
//!
//! The rules are in `plugins`, one file or folder each; `framework` says what a rule is, `profile` which rules
//! judge a pod.

mod bind;
mod cluster;
mod config;
mod cycle;
mod devices;
mod event;
mod framework;
mod metrics;
mod nominated;
mod object;
mod objects;
mod plugins;
mod preemption;
mod profile;
mod queue;
mod resource;
mod scheduler;
mod state;
mod volumes;

pub use config::{Config, ConfigurationError, KubeSchedulerConfiguration, PluginArgs, Points, ProfileConfig};
pub use scheduler::Scheduler;
