//! Pulling an image: resolve, download what is missing, unpack, record.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::auth::Credentials;
use super::digest::{Digest, Hashing};
use super::hosts::RegistryConfig;
use super::manifest::{self, Descriptor, Document, ImageConfig, Manifest};
use super::reference::Reference;
use super::registry::{self, Registry};
use super::store::{Layer, Record, Store};
use super::unpack::Budget;
use super::{Error, Result, io_error};
use crate::cri::ImageInfo;

/// Layers of one image that are downloaded at a time.
const PARALLEL: usize = 3;
/// How deep an index may hold indexes.
const MAX_DEPTH: usize = 4;

/// Pulls images; one download of a blob at a time, however many pulls want it.
pub struct Puller {
    pub(super) store: Arc<Store>,
    pub(super) registries: RegistryConfig,
    downloading: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl Puller {
    pub fn new(store: Arc<Store>, registries: RegistryConfig) -> Self {
        Puller { store, registries, downloading: Mutex::default() }
    }

    /// Tries the registry's mirrors, then itself. The error is the last one's.
    pub async fn pull(&self, reference: &Reference, credentials: Credentials) -> Result<ImageInfo> {
        let endpoints = self.registries.endpoints(reference.registry(), reference.digest().is_none())?;
        let mut last = None;
        for endpoint in endpoints {
            // Credentials are for the registry, not for who mirrors it.
            let given =
                if endpoint.namespace.is_none() { credentials.clone() } else { Credentials::default() };
            let attempt = async {
                let registry = Registry::new(endpoint, reference, given)?;
                self.pull_from(&registry, reference).await
            };
            match attempt.await {
                Ok(info) => return Ok(info),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::NotFound(reference.to_string())))
    }

    async fn pull_from(&self, registry: &Registry, reference: &Reference) -> Result<ImageInfo> {
        let (top, text, found) = self.resolve(registry, reference).await?;
        let lease = self.store.lease();
        lease.hold(found.layers.iter().map(|layer| layer.digest.clone()));
        let manifest_digest = Digest::of(&text);
        lease.hold([found.config.digest.clone(), manifest_digest.clone()]);
        self.download(registry, reference, &found.config, self.store.limits().document_bytes).await?;
        let config = self.store.config(&found.config.digest)?;
        let stack = self.store.stack(&found, &config)?;
        lease.hold(stack.iter().map(|layer| layer.chain_id.clone()));
        let mut missing = Vec::new();
        for (layer, blob) in stack.iter().zip(&found.layers) {
            check_layer(blob)?;
            if self.store.unpacked(layer)?.is_none() {
                missing.push(blob);
            }
        }
        let limit = self.store.limits().unpacked_bytes;
        let downloads: Vec<_> =
            missing.into_iter().map(|blob| self.download(registry, reference, blob, limit)).collect();
        futures::stream::iter(downloads).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        let store = Arc::clone(&self.store);
        let blobs: Vec<Digest> = found.layers.iter().map(|layer| layer.digest.clone()).collect();
        let names = blobs.clone();
        let layers = blocking(move || unpack(&store, stack, &names)).await?;
        let store = Arc::clone(&self.store);
        let record = record(reference, &top, &found, manifest_digest, &config, layers, blobs);
        let info = blocking(move || {
            store.put_blob(&text)?;
            store.add(record)
        })
        .await?;
        drop(lease);
        Ok(info)
    }

    /// The digest that the reference means, and the manifest for this machine.
    async fn resolve(
        &self,
        registry: &Registry,
        reference: &Reference,
    ) -> Result<(Digest, Vec<u8>, Manifest)> {
        let mut wanted = reference.wanted().to_owned();
        let mut expected = reference.digest().cloned();
        let mut top = None;
        for _ in 0..MAX_DEPTH {
            let (media_type, response) = registry.manifest(reference, &wanted).await?;
            let text = registry::limited(response, self.store.limits().document_bytes as usize).await?;
            let digest = Digest::of(&text);
            if let Some(expected) = &expected {
                expected.verify(digest.clone())?;
            }
            let top = &*top.get_or_insert(digest);
            match manifest::document(&media_type, &text)? {
                Document::Manifest(found) => return Ok((top.clone(), text, found)),
                Document::Index(index) => {
                    let next = index.for_host()?;
                    wanted = next.digest.to_string();
                    expected = Some(next.digest.clone());
                }
            }
        }
        Err(Error::InvalidDocument { what: "image index".to_owned(), reason: "nested too deep".to_owned() })
    }

    /// Downloads a blob into the store, unless it is there.
    async fn download(
        &self,
        registry: &Registry,
        reference: &Reference,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<()> {
        let turn = Arc::clone(self.downloading.lock().entry(blob.digest.clone()).or_default());
        let outcome = {
            let _turn = turn.lock().await;
            if self.store.has_blob(&blob.digest) {
                Ok(())
            } else {
                self.fetch(registry, reference, blob, limit).await
            }
        };
        let mut downloading = self.downloading.lock();
        // Ours and the map's: nobody else waits.
        if Arc::strong_count(&turn) == 2 {
            downloading.remove(&blob.digest);
        }
        outcome
    }

    async fn fetch(
        &self,
        registry: &Registry,
        reference: &Reference,
        blob: &Descriptor,
        limit: u64,
    ) -> Result<()> {
        if blob.size > limit {
            return Err(Error::TooLarge { limit, unit: "bytes" });
        }
        let partial = Partial(self.store.temporary());
        self.transfer(registry, reference, blob, &partial.0).await
    }

    async fn transfer(
        &self,
        registry: &Registry,
        reference: &Reference,
        blob: &Descriptor,
        path: &Path,
    ) -> Result<()> {
        let doing = || format!("write blob {}", blob.digest);
        let mut response = registry.blob(reference, blob.digest.as_str()).await?;
        let mut file = Hashing::new(File::create(path).map_err(io_error(doing()))?);
        while let Some(chunk) = registry::chunk(&mut response).await? {
            if file.count() + chunk.len() as u64 > blob.size {
                return Err(Error::TooLarge {
                    limit: blob.size,
                    unit: "bytes, which is what its descriptor says",
                });
            }
            // Page-cache writes of one chunk: shorter than handing them to another thread.
            std::io::Write::write_all(&mut file, &chunk).map_err(io_error(doing()))?;
        }
        let (file, digest, _) = file.finish();
        blob.digest.verify(digest)?;
        blocking(move || file.sync_all().map_err(io_error("sync a blob"))).await?;
        self.store.adopt_blob(&blob.digest, path)
    }
}

/// A download under way. What is left of it goes with it, also when nobody waits for it any more.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Moved to its place when it was whole. Start-up empties what cannot be removed now.
        let _left = std::fs::remove_file(&self.0);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(panicked) => {
            Err(Error::Io { doing: "unpack".to_owned(), source: std::io::Error::other(panicked) })
        }
    }
}

fn unpack(store: &Store, stack: Vec<Layer>, blobs: &[Digest]) -> Result<Vec<Layer>> {
    let mut budget = Budget::new(store.limits());
    let mut done = Vec::with_capacity(stack.len());
    for (layer, blob) in stack.into_iter().zip(blobs) {
        let open = || File::open(store.blob_path(blob)).map_err(io_error(format!("read blob {blob}")));
        let bytes = store.unpack_layer(&layer, &done, &mut budget, open)?;
        done.push(Layer { bytes, ..layer });
    }
    Ok(done)
}

fn check_layer(layer: &Descriptor) -> Result<()> {
    let tar = layer.media_type.contains(".tar")
        || layer.media_type.contains(".diff.tar")
        || layer.media_type.is_empty();
    if tar { Ok(()) } else { Err(Error::MediaType(layer.media_type.clone())) }
}

fn record(
    reference: &Reference,
    top: &Digest,
    found: &Manifest,
    manifest: Digest,
    config: &ImageConfig,
    layers: Vec<Layer>,
    blobs: Vec<Digest>,
) -> Record {
    Record {
        id: found.config.digest.clone(),
        manifest,
        tags: reference.tagged().into_iter().collect(),
        digests: [reference.with_digest(top)].into(),
        layers,
        blobs,
        user: config.config.user.clone(),
        volumes: config.config.volumes.keys().cloned().collect(),
        pinned: false,
    }
}
