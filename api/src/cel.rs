//! The Common Expression Language with Kubernetes' libraries: one implementation for the rules of custom resources,
//! admission policies, match conditions of webhooks, and whatever else asks expressions.
//!
//! Text is parsed by the `cel` crate. Everything behind its syntax tree is here, because Kubernetes promises what
//! the crate does not have: types checked against schemas with upstream's messages ([`Environment::compile`]),
//! the worst cost of an expression told before it runs ([`Program::estimate`]), the true cost counted and limited
//! while it runs ([`Program::evaluate`]), and values that are read from an object where it stands, without a copy.
//!
//! Compile once and keep the [`Program`]: evaluation parses nothing.

mod ast;
mod check;
mod compile;
mod cost;
mod decisions;
mod error;
mod escape;
mod eval;
mod functions;
mod library;
mod parse;
mod signature;
mod sizes;
mod types;
mod value;

pub use compile::{Environment, Program, Structures};
pub use cost::Range;
pub use decisions::{Check, CheckTarget, Decision, Decisions};
pub use error::{CompileError, EvalError};
pub use escape::escape;
pub use eval::{Activation, Evaluated};
pub use sizes::Sizes;
pub use types::{Field, ListType, Object, Type};
pub use value::{Entry, List, Map, Named, Opaque, Value};

/// The most that evaluating one expression may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The most that all expressions about one object may cost together.
pub const RUNTIME_BUDGET: i64 = 10_000_000;

#[cfg(test)]
mod tests;
