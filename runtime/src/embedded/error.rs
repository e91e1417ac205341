//! Inner failures as the kubelet tells them apart.

use crate::cri::{Error, Result};

/// Wraps a cause, saying what was being done.
pub fn failed<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    let doing = doing.into();
    move |cause| Error::Failed { doing, cause: Box::new(cause) }
}

pub fn not_found(what: &'static str, id: &str) -> Error {
    Error::NotFound { what, id: id.to_owned() }
}

/// Runs what blocks where that is fine.
pub async fn blocking<T, E, F>(doing: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(failed(doing)),
        Err(panicked) => Err(failed(doing)(panicked)),
    }
}

/// The same for work that already speaks the kubelet's errors.
pub async fn blocking_cri<T, F>(doing: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(panicked) => Err(failed(doing)(panicked)),
    }
}

impl From<crate::spec::Error> for Error {
    fn from(error: crate::spec::Error) -> Self {
        match error {
            crate::spec::Error::Invalid(message) => Error::Invalid(message),
            io => failed("prepare the container")(io),
        }
    }
}
