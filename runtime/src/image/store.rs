//! Blobs, layers and the index of images on disk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hashing, chain_ids};
use super::manifest::{self, Descriptor, ImageConfig, Manifest};
use super::reference::Reference;
use super::unpack::{Budget, unpack};
use super::{Error, Limits, Result, io_error};
use crate::cri::ImageInfo;

/// Hex digits of a chain id in a layer's directory name: short, so that the mount options of 127 layers fit in the
/// kernel's one page. The full id is in the layer's own file and compared.
const KEY_LENGTH: usize = 24;
/// Steps of builds that are remembered; the longest unused are forgotten first.
const MAX_CACHED: usize = 1000;

/// One image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Digest of the config: the image's id.
    pub id: Digest,
    pub manifest: Digest,
    pub tags: BTreeSet<String>,
    pub digests: BTreeSet<String>,
    pub layers: Vec<Layer>,
    /// Blobs besides config and manifest.
    pub blobs: Vec<Digest>,
    pub user: String,
    pub volumes: Vec<String>,
    pub pinned: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub chain_id: Digest,
    pub diff_id: Digest,
    pub bytes: u64,
}

impl Layer {
    pub fn key(&self) -> &str {
        key(&self.chain_id)
    }
}

fn key(chain_id: &Digest) -> &str {
    &chain_id.hex()[..KEY_LENGTH]
}

impl Record {
    fn is_named(&self, name: &str) -> bool {
        self.tags.contains(name) || self.digests.contains(name)
    }

    pub fn info(&self) -> ImageInfo {
        let user = self.user.split(':').next().unwrap_or_default();
        let uid = user.parse().ok();
        ImageInfo {
            id: self.id.to_string(),
            repo_tags: self.tags.iter().cloned().collect(),
            repo_digests: self.digests.iter().cloned().collect(),
            size: self.layers.iter().map(|layer| layer.bytes).sum(),
            uid,
            username: if uid.is_none() { user.to_owned() } else { String::new() },
            pinned: self.pinned,
            volumes: self.volumes.clone(),
        }
    }
}

/// What a build's step made, to be found again when all that it depends on is the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cached {
    pub layer: Layer,
    /// The layer's archive.
    pub blob: Descriptor,
    /// When it was made, as image configs write times.
    pub created: String,
    /// Unix time in nanoseconds.
    pub used: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<Digest, Record>,
    /// By digest of all that a step depends on.
    #[serde(default)]
    cache: BTreeMap<String, Cached>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    /// What must not be collected though no image names it: content of images under way, layers of containers.
    held: HashMap<u64, HashSet<Digest>>,
}

/// The content of all images. Calls block; run them where blocking is fine.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    limits: Limits,
    state: Mutex<State>,
    /// One unpacking per layer at a time.
    unpacking: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    next: AtomicU64,
}

impl Store {
    pub fn open(root: PathBuf, limits: Limits) -> Result<Self> {
        for directory in ["blobs/sha256", "layers", "tmp"] {
            let path = root.join(directory);
            std::fs::create_dir_all(&path).map_err(io_error(format!("create {}", path.display())))?;
        }
        let tmp = root.join("tmp");
        clear(&tmp).map_err(io_error(format!("clear {}", tmp.display())))?;
        let path = root.join("images.json");
        let index = match std::fs::read(&path) {
            Ok(text) => manifest::parse("images.json", &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(source) => return Err(Error::Io { doing: format!("read {}", path.display()), source }),
        };
        Ok(Store {
            root,
            limits,
            state: Mutex::new(State { index, held: HashMap::new() }),
            unpacking: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub fn layers_directory(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The files of an unpacked layer.
    pub fn layer_files(&self, layer: &Layer) -> PathBuf {
        self.layers_directory().join(layer.key()).join("fs")
    }

    /// Keeps content from being collected until the lease is dropped.
    pub fn lease(self: &Arc<Self>) -> Lease {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.state.lock().held.insert(id, HashSet::new());
        Lease { store: Arc::clone(self), id }
    }

    /// A path in `tmp` that nobody uses.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp").join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Takes a verified file into the store.
    pub fn adopt_blob(&self, digest: &Digest, file: &Path) -> Result<()> {
        let path = self.blob_path(digest);
        std::fs::rename(file, &path).map_err(io_error(format!("store blob {digest}")))
    }

    /// Stores a small document.
    pub fn put_blob(&self, data: &[u8]) -> Result<Digest> {
        let digest = Digest::of(data);
        if !self.has_blob(&digest) {
            // Under a name of its own, since another pull may store the same.
            let path = self.temporary();
            crate::sys::write_atomically(&path, data).map_err(io_error(format!("store blob {digest}")))?;
            self.adopt_blob(&digest, &path)?;
        }
        Ok(digest)
    }

    /// A manifest, index or config.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let doing = || format!("read blob {digest}");
        let file = File::open(self.blob_path(digest)).map_err(io_error(doing()))?;
        let mut text = Vec::new();
        let limit = self.limits.document_bytes;
        file.take(limit + 1).read_to_end(&mut text).map_err(io_error(doing()))?;
        if text.len() as u64 > limit {
            return Err(Error::TooLarge { limit, unit: "bytes of metadata" });
        }
        Ok(text)
    }

    pub fn config(&self, id: &Digest) -> Result<ImageConfig> {
        manifest::parse("image config", &self.document(id)?)
    }

    /// The stack of an image's layers, from the bottom; `None` where the config does not fit the manifest.
    pub fn stack(&self, manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Layer>> {
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::InvalidDocument {
                what: "image config".to_owned(),
                reason: format!("{} diff ids for {} layers", diff_ids.len(), manifest.layers.len()),
            });
        }
        if diff_ids.len() > self.limits.layers {
            return Err(Error::TooLarge { limit: self.limits.layers as u64, unit: "layers" });
        }
        let pairs = chain_ids(diff_ids).into_iter().zip(diff_ids);
        Ok(pairs.map(|(chain_id, diff_id)| Layer { chain_id, diff_id: diff_id.clone(), bytes: 0 }).collect())
    }

    /// An unpacked layer, if it is there: its size.
    pub fn unpacked(&self, layer: &Layer) -> Result<Option<u64>> {
        let path = self.layers_directory().join(layer.key()).join("layer.json");
        let found: Layer = match std::fs::read(&path) {
            Ok(text) => manifest::parse("layer.json", &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { doing: format!("read {}", path.display()), source }),
        };
        layer.chain_id.verify(found.chain_id)?;
        Ok(Some(found.bytes))
    }

    /// Unpacks a layer above `below` unless it is there; returns its size. `content` is called only when needed.
    pub fn unpack_layer(
        &self,
        layer: &Layer,
        below: &[Layer],
        budget: &mut Budget,
        content: impl FnOnce() -> Result<File>,
    ) -> Result<u64> {
        let turn = Arc::clone(self.unpacking.lock().entry(layer.chain_id.clone()).or_default());
        let _turn = turn.lock();
        if let Some(bytes) = self.unpacked(layer)? {
            return Ok(bytes);
        }
        let staging = self.temporary();
        let outcome = self.unpack_into(&staging, layer, below, budget, content);
        if outcome.is_err() {
            // Start-up empties what cannot be removed now.
            let _left = std::fs::remove_dir_all(&staging);
        }
        self.unpacking.lock().remove(&layer.chain_id);
        outcome
    }

    fn unpack_into(
        &self,
        staging: &Path,
        layer: &Layer,
        below: &[Layer],
        budget: &mut Budget,
        content: impl FnOnce() -> Result<File>,
    ) -> Result<u64> {
        let files = staging.join("fs");
        std::fs::create_dir_all(&files).map_err(io_error(format!("create {}", files.display())))?;
        let parents: Vec<PathBuf> = below.iter().rev().map(|layer| self.layer_files(layer)).collect();
        let unpacked = unpack(content()?, &files, &parents, budget)?;
        layer.diff_id.verify(unpacked.diff_id)?;
        self.place_layer(staging, &Layer { bytes: unpacked.bytes, ..layer.clone() })?;
        Ok(unpacked.bytes)
    }

    /// Moves a directory with a layer's files to where the layer belongs.
    fn place_layer(&self, staging: &Path, layer: &Layer) -> Result<()> {
        let text = serde_json::to_vec(layer).map_err(|error| Error::InvalidDocument {
            what: "layer.json".to_owned(),
            reason: error.to_string(),
        })?;
        let target = self.layers_directory().join(layer.key());
        crate::sys::write_atomically(&staging.join("layer.json"), &text)
            .and_then(|()| sync_file_system(staging))
            .and_then(|()| std::fs::rename(staging, &target))
            .map_err(io_error(format!("store layer {}", layer.diff_id)))
    }

    /// Takes a directory, as overlayfs left it, as the unpacked layer that it is.
    pub fn adopt_layer(&self, layer: &Layer, files: &Path) -> Result<()> {
        let turn = Arc::clone(self.unpacking.lock().entry(layer.chain_id.clone()).or_default());
        let _turn = turn.lock();
        let outcome = match self.unpacked(layer)? {
            Some(_) => Ok(()),
            None => {
                let staging = self.temporary();
                std::fs::create_dir(&staging)
                    .and_then(|()| std::fs::rename(files, staging.join("fs")))
                    .map_err(io_error(format!("store layer {}", layer.diff_id)))?;
                self.place_layer(&staging, layer)
            }
        };
        self.unpacking.lock().remove(&layer.chain_id);
        outcome
    }

    /// What a step made earlier, if it is remembered.
    pub fn cached(&self, key: &str) -> Option<Cached> {
        let mut state = self.state.lock();
        let found = state.index.cache.get_mut(key)?;
        found.used = crate::sys::now_nanos();
        Some(found.clone())
    }

    pub fn remember(&self, key: &str, made: &Cached) -> Result<()> {
        let mut state = self.state.lock();
        let cache = &mut state.index.cache;
        cache.insert(key.to_owned(), made.clone());
        if cache.len() > MAX_CACHED {
            let oldest = cache.iter().min_by_key(|(_, cached)| cached.used).map(|(key, _)| key.clone());
            oldest.map(|key| cache.remove(&key));
        }
        self.save(&state.index)
    }

    /// Forgets what builds remember; images keep their layers.
    pub fn forget_cache(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.index.cache.is_empty() {
            return Ok(());
        }
        state.index.cache.clear();
        self.save(&state.index)?;
        drop(state);
        self.collect()
    }

    /// Gives an image one more name, which moves from the image that had it.
    pub fn tag(&self, name: &str, tag: &Reference) -> Result<()> {
        let named = tag.tagged().ok_or_else(|| Error::NotFound(tag.to_string()))?;
        let mut state = self.state.lock();
        let id = find(&state.index, name).ok_or_else(|| Error::NotFound(name.to_owned()))?.id.clone();
        for other in state.index.images.values_mut() {
            other.tags.remove(&named);
        }
        if let Some(record) = state.index.images.get_mut(&id) {
            record.digests.insert(tag.with_digest(&record.manifest));
            record.tags.insert(named);
            // No registry need have it under this name.
            record.pinned = true;
        }
        self.save(&state.index)
    }

    /// Records an image whose layers are unpacked, under `names`. A tag moves from the image that had it.
    pub fn add(&self, record: Record) -> Result<ImageInfo> {
        let mut state = self.state.lock();
        for other in state.index.images.values_mut().filter(|other| other.id != record.id) {
            other.tags.retain(|tag| !record.tags.contains(tag));
        }
        let id = record.id.clone();
        match state.index.images.get_mut(&id) {
            Some(known) => {
                known.tags.extend(record.tags);
                known.digests.extend(record.digests);
                known.pinned |= record.pinned;
            }
            None => {
                state.index.images.insert(id.clone(), record);
            }
        }
        self.save(&state.index)?;
        Ok(state.index.images[&id].info())
    }

    /// By id, tag, digest or any name that completes to one of these.
    pub fn find(&self, name: &str) -> Option<Record> {
        let state = self.state.lock();
        find(&state.index, name).cloned()
    }

    pub fn list(&self) -> Vec<ImageInfo> {
        self.state.lock().index.images.values().map(Record::info).collect()
    }

    /// By id: the whole image. By name: that name, and the image with its last one. Layers of containers stay until
    /// their leases end. Nothing of that name is fine.
    pub fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.state.lock();
        let Some(record) = find(&state.index, name) else { return Ok(()) };
        let id = record.id.clone();
        let by_id = is_id(&id, name);
        let full = name.parse::<Reference>().map_or_else(|_| name.to_owned(), |r| r.to_string());
        if let Some(record) = state.index.images.get_mut(&id) {
            record.tags.remove(&full);
            record.digests.remove(&full);
            if by_id || record.tags.is_empty() {
                state.index.images.remove(&id);
            }
        }
        self.save(&state.index)?;
        drop(state);
        self.collect()
    }

    /// Keeps an image from the kubelet's garbage collection.
    pub fn pin(&self, name: &str) -> Result<ImageInfo> {
        let mut state = self.state.lock();
        let id = find(&state.index, name).ok_or_else(|| Error::NotFound(name.to_owned()))?.id.clone();
        let record = state.index.images.get_mut(&id).ok_or_else(|| Error::NotFound(name.to_owned()))?;
        record.pinned = true;
        let info = record.info();
        self.save(&state.index)?;
        Ok(info)
    }

    /// Bytes of all blobs and unpacked layers, without walking them.
    pub fn used_bytes(&self) -> Result<u64> {
        let layers: HashMap<Digest, u64> = {
            let state = self.state.lock();
            let records = state.index.images.values();
            records.flat_map(|r| &r.layers).map(|layer| (layer.chain_id.clone(), layer.bytes)).collect()
        };
        let blobs = self.root.join("blobs/sha256");
        let mut total: u64 = layers.values().sum();
        for entry in std::fs::read_dir(&blobs).map_err(io_error("list blobs"))? {
            // One that is collected meanwhile uses nothing.
            let metadata = entry.and_then(|entry| entry.metadata());
            total += metadata.map_or(0, |metadata| metadata.len());
        }
        Ok(total)
    }

    fn save(&self, index: &Index) -> Result<()> {
        let path = self.root.join("images.json");
        serde_json::to_vec(index)
            .map_err(io::Error::from)
            .and_then(|text| crate::sys::write_atomically(&path, &text))
            .map_err(io_error(format!("write {}", path.display())))
    }

    /// Removes blobs and layers that nothing names or holds.
    pub fn collect(&self) -> Result<()> {
        // Moved away under the lock, so that whoever takes a lease next finds a thing whole or not at all.
        let mut doomed = Vec::new();
        {
            let state = self.state.lock();
            let (blobs, layers) = used(&state);
            for name in names(&self.root.join("blobs/sha256")).map_err(io_error("list blobs"))? {
                if !blobs.contains(name.as_str()) {
                    doomed.push(self.doom(&self.root.join("blobs/sha256").join(name))?);
                }
            }
            for name in names(&self.layers_directory()).map_err(io_error("list layers"))? {
                if !layers.contains(name.as_str()) {
                    doomed.push(self.doom(&self.layers_directory().join(name))?);
                }
            }
        }
        for path in doomed {
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(io_error(format!("remove {}", path.display())))?;
        }
        Ok(())
    }

    fn doom(&self, path: &Path) -> Result<PathBuf> {
        let target = self.temporary();
        std::fs::rename(path, &target).map_err(io_error(format!("remove {}", path.display())))?;
        Ok(target)
    }
}

/// Hex digests of blobs and keys of layers in use.
fn used(state: &State) -> (HashSet<&str>, HashSet<&str>) {
    let mut blobs = HashSet::new();
    let mut layers = HashSet::new();
    for record in state.index.images.values() {
        blobs.extend([record.id.hex(), record.manifest.hex()]);
        blobs.extend(record.blobs.iter().map(Digest::hex));
        layers.extend(record.layers.iter().map(Layer::key));
    }
    for cached in state.index.cache.values() {
        blobs.insert(cached.blob.digest.hex());
        layers.insert(cached.layer.key());
    }
    for held in state.held.values().flatten() {
        blobs.insert(held.hex());
        layers.insert(key(held));
    }
    (blobs, layers)
}

fn find<'a>(index: &'a Index, name: &str) -> Option<&'a Record> {
    if let Some(record) = index.images.values().find(|record| is_id(&record.id, name)) {
        return Some(record);
    }
    let reference: Reference = name.parse().ok()?;
    // With a digest the tag is only decoration.
    let full = match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.to_string(),
    };
    index.images.values().find(|record| record.is_named(&full))
}

fn is_id(id: &Digest, name: &str) -> bool {
    id.as_str() == name || id.hex() == name
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn clear(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(path)?
        } else {
            std::fs::remove_file(path)?
        }
    }
    Ok(())
}

/// A layer that is named must be whole even after a crash of the machine.
fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Reads a stream into a temporary file; returns its digest and size.
pub fn spool(content: &mut impl Read, path: &Path, limit: u64) -> Result<(Digest, u64)> {
    let doing = || format!("write {}", path.display());
    let file = File::create(path).map_err(io_error(doing()))?;
    let mut file = Hashing::new(io::BufWriter::new(file));
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = content.read(&mut buffer).map_err(super::tar::read)?;
        if count == 0 {
            break;
        }
        io::Write::write_all(&mut file, &buffer[..count]).map_err(io_error(doing()))?;
        if file.count() > limit {
            return Err(Error::TooLarge { limit, unit: "bytes" });
        }
    }
    let (file, digest, size) = file.finish();
    file.into_inner().map_err(|error| error.into_error()).map_err(io_error(doing()))?;
    Ok((digest, size))
}

/// Keeps content of the store from being collected.
#[derive(Debug)]
pub struct Lease {
    store: Arc<Store>,
    id: u64,
}

impl Lease {
    /// Before looking whether it is there.
    pub fn hold(&self, digests: impl IntoIterator<Item = Digest>) {
        self.store.state.lock().held.entry(self.id).or_default().extend(digests);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.state.lock().held.remove(&self.id);
    }
}
