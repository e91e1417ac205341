//! What the operator decided about issuers, checked before the server is built.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use knarr_api::field::ErrorList;

use super::configuration::{AnonymousSection, Configuration, ConfigurationError};
use super::keys::Algorithm;
use super::mappings::Rules;
use super::oidc::Oidc;
use super::validation::validate;
use crate::authn::Anonymous;
use crate::pki::{self, files};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] pki::Error),
    #[error("{path}: there is no such authentication configuration file")]
    Missing { path: PathBuf },
    #[error("failed to load authentication configuration from file {path:?}: {cause}")]
    Load { path: PathBuf, cause: ConfigurationError },
    #[error("invalid authentication configuration: {0}")]
    Invalid(#[from] ErrorList),
    #[error("oidc: unsupported signing alg: {0:?}")]
    Algorithm(String),
    /// A configuration whose issuers do not answer is not taken.
    #[error("{0}")]
    Unreachable(String),
}

/// A configuration that is good, and where it is from.
#[derive(Debug)]
pub struct Setup {
    pub(super) configuration: Configuration,
    pub(super) rules: Vec<Rules>,
    pub(super) algorithms: Arc<[Algorithm]>,
    /// Issuers that others in this server answer for.
    pub(super) disallowed: Vec<String>,
    pub(super) file: Option<Source>,
}

/// The file of a configuration, and its text.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
}

impl Setup {
    /// Reads the operator's file (`--authentication-config`), which is followed while the server runs. No issuer may
    /// be one of `disallowed`: those of the server's own service accounts.
    pub fn from_file(path: &Path, disallowed: &[String]) -> Result<Self, Error> {
        let source = Source { path: path.to_owned(), text: read(path)? };
        let configuration = source.parse()?;
        let rules = validate(&configuration, disallowed)?;
        let algorithms = Algorithm::ALL.into();
        Ok(Self { configuration, rules, algorithms, disallowed: disallowed.to_vec(), file: Some(source) })
    }

    /// One issuer, as the older flags (`--oidc-*`) say.
    pub fn from_oidc(oidc: &Oidc, disallowed: &[String]) -> Result<Self, Error> {
        let named = |name: &String| Algorithm::named(name).ok_or_else(|| Error::Algorithm(name.clone()));
        let algorithms = oidc.signing_algorithms.iter().map(named).collect::<Result<_, _>>()?;
        let configuration = oidc.configuration();
        let rules = validate(&configuration, disallowed)?;
        Ok(Self { configuration, rules, algorithms, disallowed: disallowed.to_vec(), file: None })
    }

    /// What is said of requests without credentials; none where nothing is said.
    pub fn anonymous(&self) -> Option<Option<Anonymous>> {
        let AnonymousSection { enabled, conditions } = self.configuration.anonymous.as_ref()?;
        let paths = conditions.iter().map(|condition| condition.path.clone()).collect();
        let paths = (!conditions.is_empty()).then_some(paths);
        Some(enabled.then(|| Anonymous::on(paths)))
    }
}

impl Source {
    pub fn parse(&self) -> Result<Configuration, Error> {
        let failed = |cause| Error::Load { path: self.path.clone(), cause };
        Configuration::parse(&self.text).map_err(failed)
    }
}

pub(super) fn read(path: &Path) -> Result<String, Error> {
    files::read(path)?.ok_or_else(|| Error::Missing { path: path.to_owned() })
}
