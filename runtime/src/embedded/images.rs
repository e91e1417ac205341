//! Pulling, in the kubelet's terms.

use super::error::failed;
use super::state::Inner;
use crate::cri::{AuthConfig, Error, ImageInfo, Result};
use crate::image;
use crate::image::auth::Credentials;
use crate::image::reference::Reference;

impl Inner {
    pub async fn pull_image(&self, reference: &str, auth: Option<AuthConfig>) -> Result<ImageInfo> {
        let parsed: Reference = reference.parse().map_err(|error: image::reference::Error| {
            Error::InvalidImageName { reference: reference.to_owned(), reason: error.to_string() }
        })?;
        if parsed.registry() == image::LOCAL_REGISTRY {
            return self.imported(reference);
        }
        let pulled = self.puller.pull(&parsed, Credentials::from_config(auth)).await;
        pulled.map_err(|error| pull_error(parsed.to_string(), error))
    }

    pub async fn push_image(&self, name: &str, auth: Option<AuthConfig>) -> Result<String> {
        let reference: Reference = name.parse().map_err(|error: image::reference::Error| {
            Error::InvalidImageName { reference: name.to_owned(), reason: error.to_string() }
        })?;
        let pushed = self.puller.push(&reference, Credentials::from_config(auth)).await;
        pushed.map(|digest| digest.to_string()).map_err(failed(format!("failed to push {reference}")))
    }

    /// "Pulling" an image that no registry has gives what was imported under its name.
    fn imported(&self, reference: &str) -> Result<ImageInfo> {
        let found = self.store.find(reference).map(|record| record.info());
        found.ok_or_else(|| Error::Pull {
            reference: reference.to_owned(),
            reason: format!("{} holds only images that were imported on this node", image::LOCAL_REGISTRY),
        })
    }
}

/// containerd's words, which users see in events.
fn pull_error(reference: String, error: image::Error) -> Error {
    match error {
        image::Error::Registry(error) => {
            let reason = format!("failed to resolve reference {reference:?}: {error}");
            Error::Pull { reference, reason }
        }
        image::Error::Io { .. } => failed(format!("failed to pull and unpack image {reference:?}"))(error),
        other => Error::Pull { reason: other.to_string(), reference },
    }
}
