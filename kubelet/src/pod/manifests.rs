//! Static pods: manifests in a directory of this node, run without asking anyone.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Toleration};
use sha2::{Digest, Sha256};

use super::mirror::Mirrors;
use super::spec;
use super::workers::Workers;
use crate::agent::Agent;
use crate::images::reference;
use crate::logs::notify::Watcher;

/// Larger files are no manifests.
const MAX_SIZE: u64 = 10 << 20;
/// Before a directory that cannot be watched (it is not there yet) is tried again: upstream's `fileCheckFrequency`.
const RETRY: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read: {0}")]
    Read(#[from] std::io::Error),
    #[error("larger than {MAX_SIZE} bytes")]
    TooLarge,
    #[error("does not parse: {0}")]
    Yaml(#[from] serde_yaml::Error),
    #[error("is no pod: {0}")]
    Pod(#[from] serde_json::Error),
    #[error("is a {0}, not a v1 Pod")]
    Kind(String),
    #[error("has no name")]
    NoName,
    #[error("{0} is not allowed in a static pod")]
    Reference(&'static str),
}

/// The directory of manifests and the pods it had when last looked at.
pub struct Manifests {
    pub agent: Arc<Agent>,
    pub workers: Workers,
    pub mirrors: Arc<Mirrors>,
    directory: PathBuf,
    known: HashMap<String, Arc<Pod>>,
}

impl Manifests {
    pub fn new(agent: Arc<Agent>, workers: Workers, mirrors: Arc<Mirrors>, directory: PathBuf) -> Self {
        Self { agent, workers, mirrors, directory, known: HashMap::new() }
    }

    /// Brings the workers up to date with the files.
    pub fn look(&mut self) {
        let found = read_all(&self.directory, &self.agent.config.node_name, self.agent.now());
        for (_, pod) in self.known.iter().filter(|(uid, _)| !found.contains_key(*uid)) {
            self.mirrors.remove(pod);
            self.workers.remove(&self.agent, pod);
        }
        for (_, pod) in found.iter().filter(|(uid, _)| !self.known.contains_key(*uid)) {
            self.mirrors.add(pod);
            self.workers.apply(&self.agent, pod);
        }
        self.known = found;
    }

    /// Follows the directory for ever: pods come and go with their files.
    pub async fn follow(mut self) {
        loop {
            // Watching begins before reading: nothing written in between is missed.
            let watcher = Watcher::new(&self.directory);
            self.look();
            let changed = match &watcher {
                Ok(watcher) => watcher.changed().await.is_ok(),
                Err(_) => false,
            };
            if !changed {
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// All pods of a directory by uid; files that are none are told and left out.
fn read_all(directory: &Path, node: &str, now: jiff::Timestamp) -> HashMap<String, Arc<Pod>> {
    let mut pods = HashMap::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden || !path.is_file() {
            continue;
        }
        match read(&path, node, now) {
            Ok(pod) => {
                pods.insert(spec::uid(&pod).to_owned(), Arc::new(pod));
            }
            Err(error) => tracing::error!(path = %path.display(), %error, "ignoring a manifest"),
        }
    }
    pods
}

fn read(path: &Path, node: &str, now: jiff::Timestamp) -> Result<Pod, ManifestError> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_SIZE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(ManifestError::TooLarge);
    }
    parse(&text, path, node, now)
}

/// Reads a manifest and gives it what the API would have given it.
fn parse(text: &str, path: &Path, node: &str, now: jiff::Timestamp) -> Result<Pod, ManifestError> {
    let value: serde_json::Value = serde_yaml::from_str(text)?;
    let field = |name: &str| value.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    if (field("apiVersion"), field("kind")) != ("v1", "Pod") {
        return Err(ManifestError::Kind(format!("{}/{}", field("apiVersion"), field("kind"))));
    }
    let mut pod: Pod = serde_json::from_value(value)?;
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty()).ok_or(ManifestError::NoName)?;
    check_references(&pod)?;
    let mut hash = Sha256::new();
    for part in [node, &path.display().to_string(), text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let uid: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    let notes = meta.annotations.get_or_insert_default();
    notes.insert(spec::CONFIG_HASH.to_owned(), uid.clone());
    notes.insert(spec::CONFIG_SOURCE.to_owned(), "file".to_owned());
    notes.insert("kubernetes.io/config.seen".to_owned(), now.to_string());
    meta.uid = Some(uid);
    set_defaults(&mut pod, node);
    Ok(pod)
}

/// Static pods must run without the API: they cannot refer to its objects.
fn check_references(pod: &Pod) -> Result<(), ManifestError> {
    let (config_maps, secrets) = super::references::of(pod);
    if !config_maps.is_empty() {
        return Err(ManifestError::Reference("a reference to a ConfigMap"));
    }
    if !secrets.is_empty() {
        return Err(ManifestError::Reference("a reference to a Secret"));
    }
    if spec::spec(pod).service_account_name.is_some() {
        return Err(ManifestError::Reference("a service account"));
    }
    Ok(())
}

fn set_defaults(pod: &mut Pod, node: &str) {
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    // Nothing evicts what is not the API's.
    spec.tolerations.get_or_insert_default().push(Toleration {
        effect: Some("NoExecute".to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    });
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        set_container_defaults(container);
    }
}

fn set_container_defaults(container: &mut Container) {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = reference::default_policy(image);
    container.image_pull_policy.get_or_insert_with(|| policy.to_owned());
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
    container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: a, image: b}\n";

    fn of(text: &str) -> Result<Pod, ManifestError> {
        parse(text, Path::new("/m/web.yaml"), "Node-1", jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = of(MANIFEST).expect("a pod");
        assert_eq!((spec::name(&pod), spec::namespace(&pod)), ("web-node-1", "default"));
        assert!(spec::is_static(&pod) && !spec::is_mirror(&pod));
        assert_eq!(spec::uid(&pod).len(), 32);
        assert_eq!(spec::containers(&pod)[0].image_pull_policy.as_deref(), Some("Always"));
        assert_ne!(
            of(&MANIFEST.replace("image: b", "image: c")).expect("a pod").metadata.uid,
            pod.metadata.uid
        );
    }

    #[test]
    fn what_is_no_static_pod_is_refused() {
        for bad in [
            "",
            "{",
            "kind: Deployment\napiVersion: apps/v1",
            "apiVersion: v1\nkind: Pod\nspec: {containers: []}",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec: {serviceAccountName: x, containers: []}",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec: {containers: [], volumes: [{name: v, secret: {secretName: s}}]}",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
