//! Adding a cluster's context to the user's kubeconfig, and taking it out again, without touching the rest.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_yaml::{Mapping, Value};

/// The lists of a kubeconfig, each of entries with a `name`.
const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

/// The file kubectl would write to: the first of $KUBECONFIG, or ~/.kube/config.
pub fn user_file() -> Option<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    if let Some(list) = listed {
        return std::env::split_paths(&list).find(|path| !path.as_os_str().is_empty());
    }
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config"))
}

/// Puts the entries of `ours` (which all carry `name`) into `file` and makes `name` the current context.
pub fn merge(file: &Path, ours: &str, name: &str) -> anyhow::Result<()> {
    let ours: Mapping = serde_yaml::from_str(ours).context("the cluster's own kubeconfig")?;
    edit(file, |config| {
        for list in LISTS {
            let mut entries = without(config, list, name)?;
            if let Some(Value::Sequence(added)) = ours.get(list) {
                entries.extend(added.iter().cloned());
            }
            config.insert(list.into(), entries.into());
        }
        config.insert("apiVersion".into(), "v1".into());
        config.insert("kind".into(), "Config".into());
        config.insert("current-context".into(), name.into());
        Ok(Outcome::Write)
    })
}

/// Takes the entries called `name` out of `file`; a file that says nothing after that goes, as it may not have been
/// there before.
pub fn remove(file: &Path, name: &str) -> anyhow::Result<()> {
    if !file.exists() {
        return Ok(());
    }
    edit(file, |config| {
        for list in LISTS {
            let entries = without(config, list, name)?;
            config.insert(list.into(), entries.into());
        }
        if config.get("current-context").and_then(Value::as_str) == Some(name) {
            config.insert("current-context".into(), "".into());
        }
        Ok(if says_nothing(config) { Outcome::Remove } else { Outcome::Write })
    })
}

fn says_nothing(config: &Mapping) -> bool {
    config.iter().all(|(key, value)| match value {
        Value::Sequence(entries) => entries.is_empty(),
        Value::Mapping(settings) => settings.is_empty(),
        Value::String(text) => text.is_empty() || matches!(key.as_str(), Some("apiVersion" | "kind")),
        other => other.is_null(),
    })
}

/// What becomes of a changed file.
enum Outcome {
    Write,
    Remove,
}

fn without(config: &Mapping, list: &str, name: &str) -> anyhow::Result<Vec<Value>> {
    match config.get(list) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Sequence(entries)) => {
            let others = entries.iter().filter(|e| e.get("name").and_then(Value::as_str) != Some(name));
            Ok(others.cloned().collect())
        }
        Some(_) => bail!("{list} is not a list"),
    }
}

/// Reads, changes and replaces the file in one step. Like kubectl, a file beside it keeps others out meanwhile.
fn edit(file: &Path, change: impl FnOnce(&mut Mapping) -> anyhow::Result<Outcome>) -> anyhow::Result<()> {
    let shown = file.display();
    // A linked kubeconfig stays a link.
    let file = &std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let _lock = LockFile::take(file)?;
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {shown}")),
    };
    let mut config: Mapping = match text.trim() {
        "" => Mapping::new(),
        text => serde_yaml::from_str(text).with_context(|| format!("{shown} is not a kubeconfig"))?,
    };
    if let Outcome::Remove = change(&mut config).with_context(|| format!("{shown} is not a kubeconfig"))? {
        return std::fs::remove_file(file).with_context(|| format!("removing {shown}"));
    }
    let mut written =
        tempfile::NamedTempFile::new_in(directory).with_context(|| format!("writing {shown}"))?;
    written.write_all(serde_yaml::to_string(&config)?.as_bytes())?;
    if let Ok(before) = std::fs::metadata(file) {
        std::os::unix::fs::fchown(written.as_file(), Some(before.uid()), Some(before.gid()))?;
        written.as_file().set_permissions(before.permissions())?;
    }
    written.as_file().sync_all()?;
    written.persist(file).with_context(|| format!("writing {shown}"))?;
    Ok(())
}

struct LockFile(PathBuf);

impl LockFile {
    fn take(file: &Path) -> anyhow::Result<Self> {
        let mut path = file.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => Ok(Self(path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("{} exists: another program is changing {}", path.display(), file.display())
            }
            Err(error) => Err(error).with_context(|| format!("creating {}", path.display())),
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not remove the lock");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "clusters:\n- name: knarr-a\n  cluster: {server: 'https://127.0.0.1:6443'}\ncontexts:\n- name: knarr-a\n  context: {cluster: knarr-a, user: knarr-a}\nusers:\n- name: knarr-a\n  user: {}\n";

    fn parse(file: &Path) -> Value {
        serde_yaml::from_str(&std::fs::read_to_string(file).expect("reads")).expect("parses")
    }

    #[test]
    fn a_file_that_was_made_for_the_cluster_goes_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config");
        merge(&file, OURS, "knarr-a").expect("merges");
        merge(&file, &OURS.replace("knarr-a", "knarr-b"), "knarr-b").expect("merges");
        remove(&file, "knarr-b").expect("removes");
        assert!(file.exists(), "another cluster's entries are in it");
        remove(&file, "knarr-a").expect("removes");
        assert_eq!(std::fs::read_dir(directory.path()).expect("reads").count(), 0);
    }

    #[test]
    fn merging_twice_and_removing_leaves_the_users_own_entries() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("sub/config");
        std::fs::create_dir(directory.path().join("sub")).expect("a directory");
        let mine = "apiVersion: v1\nkind: Config\ncurrent-context: mine\nclusters:\n- name: mine\n  cluster: {server: 'https://x'}\npreferences: {colors: true}\n";
        std::fs::write(&file, mine).expect("writes");
        merge(&file, OURS, "knarr-a").expect("merges");
        merge(&file, OURS, "knarr-a").expect("merges");
        let merged = parse(&file);
        assert_eq!(merged["clusters"].as_sequence().map(Vec::len), Some(2));
        assert_eq!(merged["current-context"], "knarr-a");
        assert_eq!(merged["preferences"]["colors"], true);
        remove(&file, "knarr-a").expect("removes");
        let left = parse(&file);
        assert_eq!(left["clusters"].as_sequence().map(Vec::len), Some(1));
        assert_eq!(left["clusters"][0]["name"], "mine");
        assert_eq!(left["current-context"], "");
        assert!(!directory.path().join("sub/config.lock").exists());
    }

    #[test]
    fn what_is_no_kubeconfig_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config");
        for text in ["- a list\n", "clusters: 7\n", "a: [\n"] {
            std::fs::write(&file, text).expect("writes");
            assert!(merge(&file, OURS, "knarr-a").is_err());
            assert_eq!(std::fs::read_to_string(&file).expect("reads"), text);
        }
    }
}
