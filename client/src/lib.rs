//! How every component but the API server speaks to the API server.
//!
//! * [`connect`]: a [`Client`] over a service in this process or over HTTPS, and one identity per component.
//! * [`api`]: typed requests for one resource.
//! * [`informer`]: caches of whole resources, one watch per resource and process, shared by all users.
//! * [`queue`] and [`runner`]: the de-duplicating work queue and the workers that call `reconcile(key)`.
//! * [`events`]: `core/v1` Events, aggregated and rate-limited as upstream's recorder does.
//! * [`error`]: telling the server's answers apart.
//! * [`leader`]: leader election on Leases.
//! * [`expectations`] and [`ownership`]: what a controller that owns children under a stale cache needs.

pub mod api;
pub mod connect;
pub mod error;
pub mod events;
pub mod expectations;
pub mod informer;
pub mod leader;
mod lenient;
pub mod object;
pub mod ownership;
pub mod queue;
pub mod runner;

pub use api::Api;
pub use connect::{ClientFactory, Identity};
pub use informer::{Change, InformerFactory, Selection, SharedInformer};
pub use kube::Client;
pub use object::{Cached, ObjectKey};
pub use queue::WorkQueue;
pub use runner::{Action, Reconcile};
