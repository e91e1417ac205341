//! An image's configuration while it is built: the whole document, so that what we do not know stays in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::image::manifest::{Platform, RunConfig};
use crate::image::{self, manifest};

#[derive(Debug, Clone)]
pub struct Config {
    document: Map<String, Value>,
}

impl Config {
    /// Of an image with nothing in it.
    pub fn scratch() -> Self {
        let host = Platform::host();
        let mut document = Map::new();
        document.insert("architecture".into(), host.architecture.into());
        document.insert("os".into(), host.os.into());
        if let Some(variant) = host.variant {
            document.insert("variant".into(), variant.into());
        }
        document.insert("config".into(), json!({}));
        document.insert("rootfs".into(), json!({"type": "layers", "diff_ids": []}));
        document.insert("history".into(), json!([]));
        Self { document }
    }

    /// Of a base image; what only its own build meant goes.
    pub fn of_base(text: &[u8]) -> image::Result<Self> {
        let mut document: Map<String, Value> = manifest::parse("image config", text)?;
        for key in ["container", "container_config", "parent", "docker_version"] {
            document.remove(key);
        }
        for (key, empty) in [("config", json!({})), ("history", json!([]))] {
            if document.get(key).is_none_or(Value::is_null) {
                document.insert(key.into(), empty);
            }
        }
        Ok(Self { document })
    }

    pub fn text(&self) -> image::Result<Vec<u8>> {
        serde_json::to_vec(&self.document).map_err(|error| image::Error::InvalidDocument {
            what: "image config".to_owned(),
            reason: error.to_string(),
        })
    }

    /// How containers of it run now.
    pub fn run(&self) -> image::Result<RunConfig> {
        let text = self.get("").to_string();
        manifest::parse("image config", text.as_bytes())
    }

    /// A field below `config`; all of it for an empty name.
    pub fn get(&self, name: &str) -> &Value {
        const NULL: &Value = &Value::Null;
        let run = self.document.get("config").unwrap_or(NULL);
        if name.is_empty() { run } else { run.get(name).unwrap_or(NULL) }
    }

    pub fn set(&mut self, name: &str, value: Value) {
        if let Some(run) = self.document.get_mut("config").and_then(Value::as_object_mut) {
            if value.is_null() {
                run.remove(name);
            } else {
                run.insert(name.to_owned(), value);
            }
        }
    }

    /// Adds a key to a field that is a map.
    pub fn insert(&mut self, name: &str, key: &str, value: Value) {
        let mut map = self.get(name).as_object().cloned().unwrap_or_default();
        map.insert(key.to_owned(), value);
        self.set(name, Value::Object(map));
    }

    pub fn strings(&self, name: &str) -> Vec<String> {
        let list = self.get(name).as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    pub fn string(&self, name: &str) -> String {
        self.get(name).as_str().unwrap_or_default().to_owned()
    }

    pub fn env(&self) -> BTreeMap<String, String> {
        let split = |entry: &String| {
            let (key, value) = entry.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        self.strings("Env").iter().filter_map(split).collect()
    }

    /// Replaces a variable in its place, or adds it at the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.strings("Env");
        let entry = format!("{name}={value}");
        match env.iter_mut().find(|known| known.split('=').next() == Some(name)) {
            Some(known) => *known = entry,
            None => env.push(entry),
        }
        self.set("Env", json!(env));
    }

    pub fn set_author(&mut self, author: &str) {
        self.document.insert("author".into(), author.into());
    }

    /// What RUN, CMD and ENTRYPOINT give text to.
    pub fn shell(&self) -> Vec<String> {
        let shell = self.strings("Shell");
        if shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { shell }
    }

    /// Notes a step, with its layer where it made one.
    pub fn note(&mut self, created: Option<&str>, by: &str, layer: Option<&str>) {
        let mut entry = json!({"created_by": by, "comment": "knarr"});
        if let Some(created) = created {
            entry["created"] = created.into();
            self.document.insert("created".into(), created.into());
        }
        match layer {
            Some(diff_id) => {
                let rootfs = self.document.entry("rootfs").or_insert_with(|| json!({"type": "layers"}));
                push(rootfs, "diff_ids", diff_id.into());
            }
            None => entry["empty_layer"] = true.into(),
        }
        if let Some(history) = self.document.get_mut("history").and_then(Value::as_array_mut) {
            history.push(entry);
        }
    }

    pub fn created(&self) -> Option<&str> {
        self.document.get("created").and_then(Value::as_str)
    }
}

fn push(object: &mut Value, name: &str, value: Value) {
    match object.get_mut(name).and_then(Value::as_array_mut) {
        Some(list) => list.push(value),
        None => object[name] = json!([value]),
    }
}
