//! Saving images: one archive that is an OCI layout and what `docker load` reads, both over the same blobs.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use serde_json::{Value, json};
use tar::{Builder, Header};

use super::digest::Digest;
use super::{Error, Record, Result, Store, io_error, manifest};

/// Writes the images of these names.
pub fn save(store: &Arc<Store>, names: &[String], archive: impl Write) -> Result<()> {
    let lease = store.lease();
    let mut out = Archive { builder: Builder::new(archive), written: HashSet::new() };
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    for name in names {
        let record = store.find(name).ok_or_else(|| Error::NotFound(name.clone()))?;
        lease.hold([record.id.clone(), record.manifest.clone()]);
        lease.hold(record.blobs.iter().cloned());
        for digest in [&record.manifest, &record.id].into_iter().chain(&record.blobs) {
            out.blob(store, digest)?;
        }
        index.extend(entries(store, &record, name)?);
        docker.push(docker_entry(&record));
    }
    let index = json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": index});
    out.document("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    out.document("index.json", &index)?;
    out.document("manifest.json", &Value::Array(docker))?;
    out.builder.into_inner().and_then(|mut archive| archive.flush()).map_err(io_error("write the archive"))
}

/// The image once for each of its names, or without one.
fn entries(store: &Store, record: &Record, name: &str) -> Result<Vec<Value>> {
    let text = store.document(&record.manifest)?;
    let found: manifest::Manifest = manifest::parse("manifest", &text)?;
    let media_type =
        if found.media_type.is_empty() { manifest::OCI_MANIFEST.to_owned() } else { found.media_type };
    let entry = |annotations: Value| {
        json!({
            "mediaType": media_type, "digest": record.manifest, "size": text.len(), "annotations": annotations,
        })
    };
    // Asked for by name, it goes by that name; asked for by id, by all that it has.
    let full = name.parse::<super::reference::Reference>().ok().and_then(|reference| reference.tagged());
    let tags: Vec<&String> =
        record.tags.iter().filter(|tag| full.as_ref().is_none_or(|f| f == *tag)).collect();
    if tags.is_empty() {
        return Ok(vec![entry(json!({}))]);
    }
    let named = |tag: &&String| {
        entry(json!({"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag}))
    };
    Ok(tags.iter().map(named).collect())
}

fn docker_entry(record: &Record) -> Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    json!({
        "Config": path(&record.id),
        "RepoTags": record.tags,
        "Layers": record.blobs.iter().map(path).collect::<Vec<_>>(),
    })
}

struct Archive<W: Write> {
    builder: Builder<W>,
    written: HashSet<Digest>,
}

impl<W: Write> Archive<W> {
    fn blob(&mut self, store: &Store, digest: &Digest) -> Result<()> {
        if !self.written.insert(digest.clone()) {
            return Ok(());
        }
        let doing = || format!("save blob {digest}");
        let file = File::open(store.blob_path(digest)).map_err(io_error(doing()))?;
        let size = file.metadata().map_err(io_error(doing()))?.len();
        self.append(&format!("blobs/sha256/{}", digest.hex()), size, file)
    }

    fn document(&mut self, name: &str, content: &Value) -> Result<()> {
        let text = content.to_string();
        self.append(name, text.len() as u64, text.as_bytes())
    }

    fn append(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        let appended = self.builder.append_data(&mut header, name, content);
        appended.map_err(io_error(format!("save {name}")))
    }
}
