//! All that is known of an image, in the words that `docker inspect` uses.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, Result, Store, manifest};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Description {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub created: String,
    pub author: String,
    pub architecture: String,
    pub os: String,
    /// Bytes of unpacked content.
    pub size: u64,
    /// The `config` of the image's own document.
    pub config: Value,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// Oldest first.
    pub history: Vec<Step>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    #[serde(rename = "Type")]
    pub kind: String,
    /// Digests of the layers, from the bottom.
    pub layers: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Step {
    pub created: String,
    pub created_by: String,
    /// Bytes of its layer.
    pub size: u64,
    pub comment: String,
}

/// Describes the image of this name or id.
pub fn inspect(store: &Store, name: &str) -> Result<Description> {
    let record = store.find(name).ok_or_else(|| Error::NotFound(name.to_owned()))?;
    let document: Value = manifest::parse("image config", &store.document(&record.id)?)?;
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut layers = record.layers.iter();
    let history = document["history"].as_array().into_iter().flatten().map(|step| {
        let empty = step["empty_layer"].as_bool().unwrap_or(false);
        Step {
            created: text(step, "created"),
            created_by: text(step, "created_by"),
            size: if empty { 0 } else { layers.next().map_or(0, |layer| layer.bytes) },
            comment: text(step, "comment"),
        }
    });
    let history = history.collect();
    let info = record.info();
    Ok(Description {
        id: info.id,
        repo_tags: info.repo_tags,
        repo_digests: info.repo_digests,
        created: text(&document, "created"),
        author: text(&document, "author"),
        architecture: text(&document, "architecture"),
        os: text(&document, "os"),
        size: info.size,
        config: document["config"].clone(),
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: record.layers.iter().map(|layer| layer.diff_id.to_string()).collect(),
        },
        history,
    })
}
