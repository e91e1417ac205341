//! The documents of an image: descriptors, manifests, indexes, configs. Only the fields we use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::{Error, Result};

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    fn runs_on(&self, host: &Platform) -> bool {
        let variant = self.variant.is_none() || host.variant.is_none() || self.variant == host.variant;
        self.os == host.os && self.architecture == host.architecture && variant
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    #[serde(default)]
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The manifest for this machine.
    pub fn for_host(&self) -> Result<&Descriptor> {
        let host = Platform::host();
        let exact = |d: &&Descriptor| d.platform.as_ref().is_some_and(|platform| platform.runs_on(&host));
        // An index of one image may leave the platform out.
        let unnamed = |d: &&Descriptor| d.platform.is_none();
        let found = self.manifests.iter().find(exact).or_else(|| self.manifests.iter().find(unnamed));
        found.ok_or_else(|| Error::NoPlatform(format!("{}/{}", host.os, host.architecture)))
    }
}

/// The image's own configuration document.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub config: RunConfig,
    pub rootfs: RootFs,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RootFs {
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// How to run it. Docker writes `null` for what is empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
    #[serde(deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A manifest, or an index that leads to one.
#[derive(Debug)]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Reads a document of either kind; the media type decides, and where there is none the content.
pub fn document(media_type: &str, text: &[u8]) -> Result<Document> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        media_type: String,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = parse("manifest", text)?;
    let media_type = if shape.media_type.is_empty() { media_type } else { &shape.media_type };
    match media_type {
        OCI_INDEX | DOCKER_LIST => Ok(Document::Index(parse("image index", text)?)),
        OCI_MANIFEST | DOCKER_MANIFEST => Ok(Document::Manifest(parse("manifest", text)?)),
        "" | "application/json" | "application/octet-stream" if shape.manifests.is_some() => {
            Ok(Document::Index(parse("image index", text)?))
        }
        "" | "application/json" | "application/octet-stream" => {
            Ok(Document::Manifest(parse("manifest", text)?))
        }
        other => Err(Error::MediaType(other.to_owned())),
    }
}

pub fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a [u8]) -> Result<T> {
    serde_json::from_slice(text)
        .map_err(|error| Error::InvalidDocument { what: what.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_docker_are_empty() {
        let text = br#"{"config":{"User":"","Env":null,"Entrypoint":null,"Cmd":["sh"],"Volumes":null},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config: ImageConfig = parse("config", text).expect("a config");
        assert!(config.config.env.is_empty());
        assert_eq!(config.config.cmd, ["sh"]);
    }

    #[test]
    fn an_index_leads_to_the_manifest_of_this_machine() {
        let host = Platform::host();
        let digest = Digest::of(b"");
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[
                {{"digest":"{digest}","size":1,"platform":{{"os":"plan9","architecture":"{0}"}}}},
                {{"digest":"{digest}","size":2,"platform":{{"os":"linux","architecture":"{0}"}}}}]}}"#,
            host.architecture
        );
        let Document::Index(index) = document("", text.as_bytes()).expect("an index") else {
            panic!("taken for a manifest");
        };
        assert_eq!(index.for_host().expect("ours").size, 2);
    }
}
