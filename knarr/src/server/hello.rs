//! The image `knarr.local/hello`: this very program in an otherwise empty image, so that the first deployment needs
//! no registry.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use knarr_controllers::LocalStorage;
use knarr_runtime::cri::ContainerRuntime;
use knarr_runtime::embedded::Embedded;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::settings::NodeSettings;
use crate::hello::{NODE_NAME, PORT};

pub const NAME: &str = "knarr.local/hello:latest";

/// The image also removes volumes of the nodes' own disks: every node has it.
pub fn local_storage() -> LocalStorage {
    LocalStorage {
        image: NAME.to_owned(),
        remove_command: vec!["/knarr".to_owned(), "remove-volume".to_owned()],
    }
}

/// Makes and imports the image, unless the runtime has it of this very program already.
pub async fn import(settings: &NodeSettings, runtime: &Embedded) -> anyhow::Result<()> {
    let marker = settings.dir("hello.fingerprint");
    let wanted = fingerprint(&settings.program, &settings.node_name)?;
    let have = runtime.image_status(NAME).await?.is_some();
    if have && std::fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let (program, node) = (settings.program.clone(), settings.node_name.clone());
    let directory = settings.data_dir.clone();
    let archive = tokio::task::spawn_blocking(move || {
        let archive = tempfile::NamedTempFile::new_in(&directory)?;
        write_archive(&program, &node, archive.path())?;
        anyhow::Ok(archive)
    })
    .await??;
    runtime.import_image(open_archive(archive.path())?).await?;
    runtime.pin_image(NAME).await?;
    std::fs::write(&marker, wanted).with_context(|| marker.display().to_string())
}

/// Which program the image was made of, so that it is made anew only for another one.
pub fn fingerprint(program: &Path, node: &str) -> anyhow::Result<String> {
    let meta = std::fs::metadata(program).with_context(|| program.display().to_string())?;
    Ok(format!("{node} {} {} {}", meta.size(), meta.mtime(), meta.ino()))
}

/// Writes the image as a `docker save` archive.
pub fn write_archive(program: &Path, node: &str, archive: &Path) -> anyhow::Result<()> {
    let layer = tempfile::NamedTempFile::new_in(archive.parent().context("an archive has a directory")?)?;
    let mut builder = tar::Builder::new(Hashing::new(layer.as_file().try_clone()?));
    let mut content = File::open(program).with_context(|| program.display().to_string())?;
    let mut header = tar::Header::new_gnu();
    header.set_size(content.metadata()?.len());
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_cksum();
    builder.append_data(&mut header, "knarr", &mut content)?;
    let digest = builder.into_inner()?.finish();

    let config = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/knarr", "hello"],
            "Env": [format!("{NODE_NAME}={node}")],
            "ExposedPorts": {format!("{PORT}/tcp"): {}},
            "User": "65532:65532",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    }))?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let manifest = serde_json::to_vec(&json!([{
        "Config": config_name,
        "RepoTags": [NAME],
        "Layers": ["layer.tar"],
    }]))?;
    let mut builder =
        tar::Builder::new(File::create(archive).with_context(|| archive.display().to_string())?);
    builder.append_path_with_name(layer.path(), "layer.tar")?;
    for (name, content) in [(config_name.as_str(), &config), ("manifest.json", &manifest)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, content.as_slice())?;
    }
    builder.into_inner()?.flush()?;
    Ok(())
}

/// Images speak of architectures in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Passes on what is written and sums it up.
struct Hashing {
    inner: File,
    hash: Sha256,
}

impl Hashing {
    fn new(inner: File) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The archive as a stream for the runtime.
pub fn open_archive(archive: &Path) -> anyhow::Result<impl Read + Send + 'static> {
    File::open(archive).with_context(|| archive.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_the_program_under_its_own_digest() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("program");
        std::fs::write(&program, "#!/bin/true").expect("writes");
        let archive = directory.path().join("hello.tar");
        write_archive(&program, "n1", &archive).expect("writes");
        let mut entries = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(open_archive(&archive).expect("opens")).entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            entries.insert(entry.path().expect("a path").display().to_string(), content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&entries["manifest.json"]).expect("JSON");
        let config = &entries[manifest[0]["Config"].as_str().expect("a name")];
        let config: serde_json::Value = serde_json::from_slice(config).expect("JSON");
        let digest = format!("sha256:{}", hex(&Sha256::digest(&entries["layer.tar"])));
        assert_eq!(config["rootfs"]["diff_ids"][0], digest);
        assert_eq!(config["config"]["Env"][0], "NODE_NAME=n1");
        let mut layer = tar::Archive::new(entries["layer.tar"].as_slice());
        let names: Vec<String> = layer
            .entries()
            .expect("a tar")
            .map(|e| e.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(names, ["knarr"]);
    }
}
