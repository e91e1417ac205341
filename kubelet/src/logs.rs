//! Container logs: files in CRI's format, read for users and kept from growing.

pub mod line;
pub mod notify;
pub mod read;
pub mod rotate;
