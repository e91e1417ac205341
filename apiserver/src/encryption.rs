//! Secrets at rest: what the store holds of the configured resources is encrypted, in the formats and under the
//! prefixes of upstream's EncryptionConfiguration, so that either server reads what the other wrote.
//!
//! [`EncryptionFile`] reads the configuration, or makes one with a fresh key at the first start, and follows its
//! changes; [`Encrypted`] is the store that everything above sees: plain objects go in, plain objects come out.

mod config;
mod file;
mod provider;
mod rules;
mod store;

pub use config::ConfigError;
pub use file::{EncryptionFile, Error};
pub use store::Encrypted;
