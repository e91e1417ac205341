//! Importing archives: OCI layouts and what `docker save` writes, plain or compressed.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::digest::Digest;
use super::manifest::{self, Descriptor, Document, ImageConfig, Index, Manifest};
use super::reference::Reference;
use super::store::{Record, Store, spool};
use super::tar::{Kind, Reader};
use super::unpack::Budget;
use super::{Error, Lease, Result, compression, io_error};
use crate::cri::ImageInfo;

/// containerd's and Docker's annotation with the full name; the standard one often has only the tag.
const FULL_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// How deep an index may hold indexes.
const MAX_DEPTH: usize = 4;
/// Links followed inside an archive.
const MAX_LINKS: usize = 8;

/// One file of the archive, spooled.
#[derive(Debug)]
struct Spooled {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

/// All files of an archive, in a temporary directory that goes with it.
struct Archive {
    directory: PathBuf,
    files: HashMap<String, Spooled>,
    links: HashMap<String, String>,
}

impl Drop for Archive {
    fn drop(&mut self) {
        // Start-up empties what cannot be removed now.
        let _left = std::fs::remove_dir_all(&self.directory);
    }
}

/// Imports every image of an archive for this machine; returns them with their names. A refused archive leaves
/// nothing.
pub fn import(store: &Arc<Store>, archive: impl Read) -> Result<Vec<ImageInfo>> {
    let archive = Archive::read(store, archive)?;
    let lease = store.lease();
    let outcome = archive.images(store, &lease);
    drop(lease);
    if outcome.is_err() {
        store.collect()?;
    }
    outcome
}

impl Archive {
    fn read(store: &Store, archive: impl Read) -> Result<Self> {
        let directory = store.temporary();
        std::fs::create_dir(&directory).map_err(io_error("create a directory for the archive"))?;
        let mut found = Archive { directory, files: HashMap::new(), links: HashMap::new() };
        let stream = compression::decompress(archive).map_err(super::tar::read)?;
        let mut reader = Reader::new(stream);
        let mut left = store.limits().unpacked_bytes;
        while let Some(entry) = reader.next_entry()? {
            let name = inner_name(&entry.path)?;
            match entry.kind {
                Kind::File => {
                    let path = found.directory.join(found.files.len().to_string());
                    let (digest, size) = spool(&mut reader, &path, left)?;
                    left -= size;
                    found.files.insert(name, Spooled { path, digest, size });
                }
                Kind::Symlink | Kind::HardLink => {
                    let base = if entry.kind == Kind::Symlink { parent(&name) } else { "" };
                    let target = inner_link(base, &entry.link)?;
                    found.links.insert(name, target);
                }
                Kind::Directory => {}
                Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                    return Err(Error::HostileEntry { entry: name, reason: "is a device or a pipe" });
                }
            }
            if found.files.len() + found.links.len() > 100_000 {
                return Err(Error::TooLarge { limit: 100_000, unit: "files in the archive" });
            }
        }
        Ok(found)
    }

    fn file(&self, name: &str) -> Result<&Spooled> {
        let mut name = name;
        for _ in 0..MAX_LINKS {
            if let Some(file) = self.files.get(name) {
                return Ok(file);
            }
            name = self.links.get(name).ok_or_else(|| Error::MissingContent(name.to_owned()))?;
        }
        Err(Error::MissingContent(name.to_owned()))
    }

    /// A blob of an OCI layout, whose name is checked against its content.
    fn blob(&self, digest: &Digest) -> Result<&Spooled> {
        let file = self.file(&format!("blobs/sha256/{}", digest.hex()))?;
        digest.verify(file.digest.clone())?;
        Ok(file)
    }

    fn document(&self, store: &Store, file: &Spooled) -> Result<Vec<u8>> {
        let limit = store.limits().document_bytes;
        if file.size > limit {
            return Err(Error::TooLarge { limit, unit: "bytes of metadata" });
        }
        std::fs::read(&file.path).map_err(io_error("read the archive's metadata"))
    }

    fn images(&self, store: &Arc<Store>, lease: &Lease) -> Result<Vec<ImageInfo>> {
        let names = self.docker_names(store)?;
        if let Ok(index) = self.file("index.json") {
            let index: Index = manifest::parse("index.json", &self.document(store, index)?)?;
            let mut images = Vec::with_capacity(index.manifests.len());
            for descriptor in &index.manifests {
                images.extend(self.oci_image(store, lease, descriptor, &names)?);
            }
            if images.is_empty() {
                return Err(Error::NoPlatform("this machine".to_owned()));
            }
            return Ok(images);
        }
        self.docker_images(store, lease)
    }

    /// One entry of the layout's index; `None` when it is of another platform.
    fn oci_image(
        &self,
        store: &Arc<Store>,
        lease: &Lease,
        descriptor: &Descriptor,
        names: &HashMap<Digest, Vec<String>>,
    ) -> Result<Option<ImageInfo>> {
        let mut current = descriptor.clone();
        for _ in 0..MAX_DEPTH {
            let blob = self.blob(&current.digest)?;
            let text = self.document(store, blob)?;
            match manifest::document(&current.media_type, &text)? {
                Document::Index(index) => match index.for_host() {
                    Ok(next) => current = next.clone(),
                    Err(_) => return Ok(None),
                },
                Document::Manifest(found) => {
                    let mut tags = annotated_names(descriptor)?;
                    if tags.is_empty() {
                        tags = names.get(&found.config.digest).cloned().unwrap_or_default();
                    }
                    let config = self.blob(&found.config.digest)?;
                    let layers =
                        found.layers.iter().map(|l| self.blob(&l.digest)).collect::<Result<Vec<_>>>()?;
                    return self.add(store, lease, (&found, &text), config, &layers, tags).map(Some);
                }
            }
        }
        Err(Error::InvalidDocument { what: "image index".to_owned(), reason: "nested too deep".to_owned() })
    }

    /// Names that a docker archive's manifest.json gives, by config.
    fn docker_names(&self, store: &Store) -> Result<HashMap<Digest, Vec<String>>> {
        let Ok(file) = self.file("manifest.json") else { return Ok(HashMap::new()) };
        let entries: Vec<DockerImage> = manifest::parse("manifest.json", &self.document(store, file)?)?;
        let named = |entry: &DockerImage| {
            Some((self.file(&entry.config).ok()?.digest.clone(), full_names(&entry.repo_tags).ok()?))
        };
        Ok(entries.iter().filter_map(named).collect())
    }

    fn docker_images(&self, store: &Arc<Store>, lease: &Lease) -> Result<Vec<ImageInfo>> {
        let Ok(file) = self.file("manifest.json") else { return Err(Error::UnknownArchive) };
        let entries: Vec<DockerImage> = manifest::parse("manifest.json", &self.document(store, file)?)?;
        entries
            .iter()
            .map(|entry| {
                let config = self.file(&entry.config)?;
                let layers = entry.layers.iter().map(|layer| self.file(layer)).collect::<Result<Vec<_>>>()?;
                let manifest = docker_manifest(config, &layers);
                let text = serde_json::to_vec(&manifest).map_err(|error| Error::InvalidDocument {
                    what: "manifest".to_owned(),
                    reason: error.to_string(),
                })?;
                self.add(store, lease, (&manifest, &text), config, &layers, full_names(&entry.repo_tags)?)
            })
            .collect()
    }

    fn add(
        &self,
        store: &Arc<Store>,
        lease: &Lease,
        (manifest, text): (&Manifest, &[u8]),
        config: &Spooled,
        layers: &[&Spooled],
        tags: Vec<String>,
    ) -> Result<ImageInfo> {
        let config_text = self.document(store, config)?;
        let parsed: ImageConfig = manifest::parse("image config", &config_text)?;
        let stack = store.stack(manifest, &parsed)?;
        lease.hold(stack.iter().map(|layer| layer.chain_id.clone()));
        lease.hold(layers.iter().map(|layer| layer.digest.clone()));
        lease.hold([config.digest.clone(), Digest::of(text)]);
        let mut budget = Budget::new(store.limits());
        let mut done = Vec::with_capacity(stack.len());
        for (layer, blob) in stack.into_iter().zip(layers) {
            let open = || File::open(&blob.path).map_err(io_error("read a layer of the archive"));
            let bytes = store.unpack_layer(&layer, &done, &mut budget, open)?;
            done.push(super::store::Layer { bytes, ..layer });
        }
        for blob in layers {
            keep(store, blob)?;
        }
        store.put_blob(&config_text)?;
        let manifest_digest = store.put_blob(text)?;
        store.add(record(&parsed, config.digest.clone(), manifest_digest, done, layers, tags))
    }
}

/// The archive's own copy goes away with it, so the store links its own.
fn keep(store: &Store, blob: &Spooled) -> Result<()> {
    match std::fs::hard_link(&blob.path, store.blob_path(&blob.digest)) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(io_error(format!("store blob {}", blob.digest))),
    }
}

fn record(
    config: &ImageConfig,
    id: Digest,
    manifest: Digest,
    layers: Vec<super::store::Layer>,
    blobs: &[&Spooled],
    tags: Vec<String>,
) -> Record {
    let digests = tags
        .iter()
        .filter_map(|tag| tag.parse::<Reference>().ok())
        .map(|reference| reference.with_digest(&manifest))
        .collect();
    Record {
        id,
        manifest,
        tags: tags.into_iter().collect(),
        digests,
        layers,
        blobs: blobs.iter().map(|blob| blob.digest.clone()).collect(),
        user: config.config.user.clone(),
        volumes: config.config.volumes.keys().cloned().collect(),
        pinned: false,
    }
}

/// An entry of a docker archive's manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// A docker archive has no manifest of the registry's kind: this is the one it would have.
fn docker_manifest(config: &Spooled, layers: &[&Spooled]) -> Manifest {
    let descriptor = |media_type: &str, file: &Spooled| Descriptor {
        media_type: media_type.to_owned(),
        digest: file.digest.clone(),
        size: file.size,
        platform: None,
        annotations: Default::default(),
    };
    Manifest {
        schema_version: 2,
        media_type: manifest::OCI_MANIFEST.to_owned(),
        config: descriptor(manifest::OCI_CONFIG, config),
        layers: layers.iter().map(|layer| descriptor(manifest::OCI_LAYER, layer)).collect(),
    }
}

fn full_names(tags: &Option<Vec<String>>) -> Result<Vec<String>> {
    tags.iter().flatten().map(|tag| Ok(tag.parse::<Reference>()?.to_string())).collect()
}

fn annotated_names(descriptor: &Descriptor) -> Result<Vec<String>> {
    let annotation = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let name = match (annotation(FULL_NAME), annotation(REF_NAME)) {
        (Some(name), _) => name,
        // A lone tag names nothing.
        (None, Some(name)) if name.contains(['/', ':']) => name,
        _ => return Ok(Vec::new()),
    };
    Ok(vec![name.parse::<Reference>()?.to_string()])
}

/// A name inside the archive; those that would leave it are refused although nothing is written by name.
fn inner_name(path: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(path).into_owned();
    let mut elements = Vec::new();
    for element in text.split('/') {
        match element {
            "" | "." => {}
            ".." => {
                return Err(Error::HostileEntry { entry: text.clone(), reason: "leads out of the archive" });
            }
            element => elements.push(element),
        }
    }
    Ok(elements.join("/"))
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Old docker archives link equal layers to each other: `../<id>/layer.tar`.
fn inner_link(base: &str, link: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(link).into_owned();
    let outside = || Error::HostileEntry { entry: text.clone(), reason: "links out of the archive" };
    if Path::new(&text).is_absolute() {
        return Err(outside());
    }
    let mut elements: Vec<&str> = base.split('/').filter(|element| !element.is_empty()).collect();
    for element in text.split('/') {
        match element {
            "" | "." => {}
            ".." => {
                elements.pop().ok_or_else(outside)?;
            }
            element => elements.push(element),
        }
    }
    Ok(elements.join("/"))
}
