//! Why a reconcile failed.

use knarr_client::{
    error::message,
    ownership::{ClaimError, SelectorError},
};

/// A reconcile that could not finish; the key is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {step} {object}: {}", message(source))]
    Request { step: &'static str, object: String, source: kube::Error },
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    /// The server's answer, if it was the server that failed us.
    pub fn answer(&self) -> Option<&kube::Error> {
        match self {
            Self::Request { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str, object: &str) -> Result<T, Error>;
}

impl<T> Step<T> for Result<T, kube::Error> {
    fn step(self, step: &'static str, object: &str) -> Result<T, Error> {
        self.map_err(|source| Error::Request { step, object: object.to_owned(), source })
    }
}
