//! The scheduler: which node runs which pod.
//!
//! ```text
//!  informers ──► mailbox ──► state: nodes and their pods, kept incrementally
//!                        └─► queue: active, backing off, unschedulable ──► cycle: filter, score, assume
//!                                                                              └─► bind, on a task of its own
//! ```
//!
//! One task owns the state and decides; nothing in a decision waits or locks. Binding is a request to the API
//! server and runs beside the next decisions: an assumed pod counts on its node until the binding fails.

mod bind;
mod config;
mod cycle;
mod event;
mod object;
mod plugins;
mod queue;
mod resource;
mod scheduler;
mod state;

pub use config::Config;
pub use scheduler::Scheduler;
