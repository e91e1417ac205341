//! The service proxy: Services and EndpointSlices become nftables maps.
//!
//! ```text
//! informers ──▶ which Services changed ──▶ plan ──▶ state ──▶ difference ──▶ one nftables batch
//!                                          (pure)   (pure)     (pure)         ([`Dataplane`])
//! ```
//!
//! Only what changed is planned and sent. After a start, and after the kernel
//! refused something, the whole is compared with what the kernel has.

pub mod dataplane;
pub mod elements;
mod health;
mod layout;
mod nftables;
pub mod plan;
mod run;
pub mod state;

pub use dataplane::Dataplane;
pub use nftables::NftDataplane;
pub use run::{Proxy, ProxyHandle, Withdrawal};
