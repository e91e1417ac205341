//! Field paths and the errors of validation.
//!
//! A validation function takes an object and the [`Path`] it sits at, and returns an [`ErrorList`] of everything
//! that is wrong. Each [`Error`] renders as upstream's `field.Error` does, byte for byte, because clients and
//! suites compare those texts, and gives the [`Cause`](crate::status::Cause) that goes into a Status.

mod error;
mod path;
mod quote;

pub use error::{BadValue, Error, ErrorList, ErrorType, IMMUTABLE, aggregate};
pub use path::Path;
pub use quote::{go_json, quote};
