//! Seccomp profiles: the default one, and those an administrator puts on the node; compiled once each.

mod default;
mod profile;

use std::collections::HashMap;
use std::io::{Read, Seek};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpFilterContext, ScmpSyscall};
use parking_lot::Mutex;

use super::{Error, Result};
use crate::cri::{Profile, SecurityContext};
use profile::{Document, Rule};

/// A compiled filter, `struct sock_filter[]`.
pub type Filter = Arc<[u8]>;

/// Compiling takes longer than starting a container, and a node runs few different profiles. The lock also keeps
/// libseccomp to one thread.
static COMPILED: LazyLock<Mutex<HashMap<Key, Filter>>> = LazyLock::new(Mutex::default);

/// More profiles than this and the node's administrator changes them in a loop.
const CACHED: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// By the capabilities that widen it.
    Default(u64),
    /// By its content: the file may change.
    Local(String, u64),
}

/// The compiled filter of a container; `None` where it runs without. `profiles` is where `Localhost` profiles are.
pub fn filter(security: &SecurityContext, capabilities: u64, profiles: &Path) -> Result<Option<Filter>> {
    if security.privileged {
        return Ok(None);
    }
    let key = match &security.seccomp {
        None | Some(Profile::Unconfined) => return Ok(None),
        Some(Profile::RuntimeDefault) => Key::Default(capabilities & default::deciding_capabilities()),
        Some(Profile::Localhost(name)) => Key::Local(read_local(profiles, name)?, capabilities),
    };
    let mut compiled = COMPILED.lock();
    if let Some(filter) = compiled.get(&key) {
        return Ok(Some(Arc::clone(filter)));
    }
    let document = match &key {
        Key::Default(capabilities) => default::document(*capabilities),
        Key::Local(text, capabilities) => Document::parse(text, *capabilities)?,
    };
    let filter = compile(&document).map_err(|error| Error::Invalid(format!("seccomp profile: {error}")))?;
    if compiled.len() >= CACHED {
        compiled.clear();
    }
    compiled.insert(key, Arc::clone(&filter));
    Ok(Some(filter))
}

/// The kubelet gives an absolute path, or one below its own directory of profiles.
fn read_local(profiles: &Path, name: &str) -> Result<String> {
    let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_) | Component::RootDir));
    if !plain {
        return Err(Error::Invalid(format!("seccomp profile {name:?} leaves the directory of profiles")));
    }
    let path: PathBuf = profiles.join(name);
    std::fs::read_to_string(&path).map_err(|error| {
        Error::Invalid(format!("cannot load seccomp profile {:?}: {error}", path.display().to_string()))
    })
}

fn compile(document: &Document) -> std::io::Result<Filter> {
    let context = context(document).map_err(std::io::Error::other)?;
    // Older libseccomp writes only to a descriptor.
    let file =
        rustix::fs::memfd_create("filter", rustix::fs::MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
    context.export_bpf(&file).map_err(std::io::Error::other)?;
    let mut file = std::fs::File::from(file);
    let mut filter = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut filter)?;
    Ok(filter.into())
}

fn context(document: &Document) -> Result<ScmpFilterContext, libseccomp::error::SeccompError> {
    let mut context = ScmpFilterContext::new(document.default_action)?;
    // no-new-privs is set by whoever installs the filter, if at all.
    context.set_ctl_nnp(false)?;
    // A binary tree instead of a list: every system call passes here.
    context.set_ctl_optimize(2)?;
    for arch in sub_architectures() {
        context.add_arch(*arch)?;
    }
    for rule in &document.rules {
        add(&mut context, rule, document.default_action)?;
    }
    Ok(context)
}

/// 32-bit programs run on a 64-bit kernel, and must not be a way around the filter.
fn sub_architectures() -> &'static [ScmpArch] {
    match std::env::consts::ARCH {
        "x86_64" => &[ScmpArch::X86, ScmpArch::X32],
        "aarch64" => &[ScmpArch::Arm],
        "s390x" => &[ScmpArch::S390],
        _ => &[],
    }
}

fn add(
    context: &mut ScmpFilterContext,
    rule: &Rule,
    default_action: ScmpAction,
) -> Result<(), libseccomp::error::SeccompError> {
    // libseccomp takes a rule that changes nothing for a mistake.
    if rule.action == default_action {
        return Ok(());
    }
    for name in &rule.names {
        // Calls that this library or architecture does not know cannot be named, and fall under the default.
        let Ok(syscall) = ScmpSyscall::from_name(name) else { continue };
        let comparisons: &[ScmpArgCompare] = &rule.arguments;
        if comparisons.is_empty() {
            context.add_rule(rule.action, syscall)?;
        } else {
            context.add_rule_conditional(rule.action, syscall, comparisons)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(profile: Profile) -> SecurityContext {
        SecurityContext { seccomp: Some(profile), ..Default::default() }
    }

    #[test]
    fn the_default_profile_compiles_and_is_cached() {
        let security = security(Profile::RuntimeDefault);
        let first = filter(&security, 0, Path::new("/")).expect("compiles").expect("a filter");
        let again = filter(&security, 1, Path::new("/")).expect("compiles").expect("a filter");
        assert!(Arc::ptr_eq(&first, &again), "capability 0 does not matter to the profile");
        assert!(first.len() > 1000 && first.len() < 8 * 4096);
    }

    #[test]
    fn local_profiles_stay_in_their_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let name = "deny.json";
        std::fs::write(
            directory.path().join(name),
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#,
        )
        .expect("a profile");
        assert!(filter(&security(Profile::Localhost(name.to_owned())), 0, directory.path()).is_ok());
        for bad in ["../deny.json", "missing.json"] {
            assert!(filter(&security(Profile::Localhost(bad.to_owned())), 0, directory.path()).is_err());
        }
    }
}
