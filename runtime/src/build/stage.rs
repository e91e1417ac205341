//! One stage under way: its layers so far, its configuration, and the variables in scope.

use std::collections::BTreeMap;

use super::config::Config;
use super::dockerfile;
use super::{Error, Result};
use crate::image::manifest::Descriptor;
use crate::image::{Cached, Layer, Record};

#[derive(Debug, Clone)]
pub struct Stage {
    pub name: Option<String>,
    pub config: Config,
    pub layers: Vec<Layer>,
    /// The archives of `layers`.
    pub blobs: Vec<Descriptor>,
    /// `ARG`s in scope that have a value.
    pub arguments: BTreeMap<String, String>,
    /// A CMD of this very Dockerfile outlives a later ENTRYPOINT.
    pub cmd_set: bool,
    pub escape: char,
}

impl Stage {
    pub fn scratch(escape: char) -> Self {
        Self {
            name: None,
            config: Config::scratch(),
            layers: Vec::new(),
            blobs: Vec::new(),
            arguments: BTreeMap::new(),
            cmd_set: false,
            escape,
        }
    }

    /// On top of an image of the store.
    pub fn on(record: Record, config: &[u8], blobs: Vec<Descriptor>, escape: char) -> Result<Self> {
        Ok(Self { config: Config::of_base(config)?, layers: record.layers, blobs, ..Self::scratch(escape) })
    }

    /// A word with the stage's variables in it.
    pub fn expand(&self, word: &str) -> Result<String> {
        let env = self.config.env();
        let lookup = |name: &str| env.get(name).or_else(|| self.arguments.get(name)).cloned();
        dockerfile::expand(word, self.escape, &lookup).map_err(Error::Invalid)
    }

    /// What a RUN sees: the image's variables, and the arguments that these do not hide.
    pub fn environment(&self) -> Vec<(String, String)> {
        let env = self.config.env();
        self.arguments
            .iter()
            .filter(|(name, _)| !env.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// A path as the stage's working directory makes it absolute, slash at its end kept.
    pub fn absolute(&self, path: &str) -> String {
        let whole = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.config.string("WorkingDir"))
        };
        let clean = super::ignore::clean(&whole);
        let slash = matches!(path.rsplit('/').next(), Some("" | "." | "..")) && !clean.is_empty();
        format!("/{clean}{}", if slash { "/" } else { "" })
    }

    /// Takes a layer on top, made by this instruction.
    pub fn push(&mut self, made: Cached, by: &str) {
        self.config.note(Some(&made.created), by, Some(made.layer.diff_id.as_str()));
        self.layers.push(made.layer);
        self.blobs.push(made.blob);
    }

    /// Notes an instruction that changed no file. Its time is that of what it stands on, so that the same build gives
    /// the same image.
    pub fn note(&mut self, by: &str) {
        let created = self.config.created().map(str::to_owned);
        self.config.note(created.as_deref(), by, None);
    }

    /// Identifies the files so far.
    pub fn chain(&self) -> &str {
        self.layers.last().map_or("scratch", |layer| layer.chain_id.as_str())
    }
}
