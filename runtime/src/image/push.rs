//! Pushing an image: what the registry has not, then the manifest.

use tokio_util::io::ReaderStream;

use super::auth::Credentials;
use super::digest::Digest;
use super::manifest::{self, Descriptor, Manifest};
use super::pull::Puller;
use super::reference::Reference;
use super::registry::Registry;
use super::{Error, Result, io_error};

impl Puller {
    /// Brings an image of the store to the registry that its name says.
    pub async fn push(&self, reference: &Reference, credentials: Credentials) -> Result<Digest> {
        let name = reference.to_string();
        let record = self.store.find(&name).ok_or_else(|| Error::NotFound(name.clone()))?;
        let lease = self.store.lease();
        lease.hold([record.id.clone(), record.manifest.clone()]);
        lease.hold(record.blobs.iter().cloned());
        let text = self.store.document(&record.manifest)?;
        let found: Manifest = manifest::parse("manifest", &text)?;
        // Mirrors only serve: the registry itself is the last of its endpoints.
        let endpoint = self.registries.endpoints(reference.registry(), true)?.pop();
        let endpoint = endpoint.ok_or_else(|| Error::NotFound(name.clone()))?;
        let registry = Registry::new(endpoint, reference, credentials)?;
        for blob in found.layers.iter().chain([&found.config]) {
            self.push_blob(&registry, blob).await?;
        }
        let media_type =
            if found.media_type.is_empty() { manifest::OCI_MANIFEST } else { found.media_type.as_str() };
        registry.put_manifest(reference.wanted(), media_type, &text).await?;
        Ok(record.manifest)
    }

    async fn push_blob(&self, registry: &Registry, blob: &Descriptor) -> Result<()> {
        if registry.has_blob(blob.digest.as_str()).await? {
            return Ok(());
        }
        let path = self.store.blob_path(&blob.digest);
        let doing = || format!("read blob {}", blob.digest);
        let file = tokio::fs::File::open(&path).await.map_err(io_error(doing()))?;
        let size = file.metadata().await.map_err(io_error(doing()))?.len();
        let body = reqwest::Body::wrap_stream(ReaderStream::new(file));
        Ok(registry.put_blob(blob.digest.as_str(), size, body).await?)
    }
}
