//! The real API server in process on memory storage, builders and a paused clock; for tests only.
//!
//! [`TestServer::start`] gives a server that answers as the product's does: all filters, RBAC with nothing granted
//! (the administrator may do everything), defaulting, validation, watches. Clients sit straight on its router; no
//! socket is opened. Time is tokio's, so a test that pauses it moves the server's clock as well.

mod clock;
mod server;

pub use clock::TokioClock;
pub use knarr_apiserver::user::UserInfo;
pub use server::{Answer, TestServer};
