//! What pods were admitted with and what their containers run with; kept in the pod's directory, so that a restarted
//! agent neither admits a waiting resize by mistake nor does one twice.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::pod::spec;

const FILE: &str = "allocation.json";

/// Resources of one pod: its own, and those of its containers by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Amounts {
    pub pod: Option<ResourceRequirements>,
    pub containers: BTreeMap<String, ResourceRequirements>,
}

impl Amounts {
    /// What the spec says.
    pub fn of(pod: &Pod) -> Self {
        let containers = spec::containers(pod).iter().chain(spec::init_containers(pod));
        Self {
            pod: spec::spec(pod).resources.clone(),
            containers: containers
                .map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()))
                .collect(),
        }
    }

    /// The pod with these resources instead of its own; what is not known here stays.
    fn lay_over(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        if let Some(spec) = &mut pod.spec {
            spec.resources.clone_from(&self.pod);
            let all = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
            for container in all {
                if let Some(known) = self.containers.get(&container.name) {
                    container.resources = Some(known.clone());
                }
            }
        }
        pod
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Entry {
    allocated: Amounts,
    /// What started containers have been given; only those that were ever started are in it.
    actuated: Amounts,
}

/// By pod uid.
pub struct Allocations {
    config: Arc<Config>,
    entries: Mutex<HashMap<String, Entry>>,
}

impl Allocations {
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, entries: Mutex::default() }
    }

    /// Takes up what an earlier agent noted about the pod; `false` where there is nothing.
    pub fn load(&self, uid: &str) -> bool {
        if !self.config.host {
            return self.entries.lock().contains_key(uid);
        }
        let path = self.path(uid);
        let found = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Entry>(&bytes).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(error) => Err(error),
        };
        match found {
            Ok(entry) => {
                self.entries.lock().insert(uid.to_owned(), entry);
                true
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read what a pod was admitted with");
                false
            }
        }
    }

    /// The pod as it was admitted; the same where nothing waits.
    pub fn allocated(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let entries = self.entries.lock();
        match entries.get(spec::uid(pod)) {
            Some(entry) if entry.allocated != Amounts::of(pod) => Arc::new(entry.allocated.lay_over(pod)),
            _ => Arc::clone(pod),
        }
    }

    /// Whether the spec asks for other amounts than were admitted.
    pub fn differs(&self, pod: &Pod) -> bool {
        self.entries.lock().get(spec::uid(pod)).is_some_and(|entry| entry.allocated != Amounts::of(pod))
    }

    /// The pod was admitted with what its spec says.
    pub fn allocate(&self, pod: &Pod) {
        self.change(spec::uid(pod), |entry| entry.allocated = Amounts::of(pod));
    }

    /// What the pod's started containers run with.
    pub fn actuated(&self, uid: &str) -> Amounts {
        self.entries.lock().get(uid).map(|entry| entry.actuated.clone()).unwrap_or_default()
    }

    /// The pod as its containers run now: what was never started counts as allocated.
    pub fn as_actuated(&self, pod: &Pod) -> Pod {
        let actuated = self.actuated(spec::uid(pod));
        let own = actuated.pod.clone().or_else(|| spec::spec(pod).resources.clone());
        Amounts { pod: own, ..actuated }.lay_over(pod)
    }

    /// A container was started with its allocated resources.
    pub fn started(&self, pod: &Pod, container: &Container) {
        self.change(spec::uid(pod), |entry| {
            let own = &spec::spec(pod).resources;
            entry.actuated.pod = entry.actuated.pod.take().or_else(|| own.clone());
            let given = container.resources.clone().unwrap_or_default();
            entry.actuated.containers.insert(container.name.clone(), given);
        });
    }

    /// One resource (`cpu`, `memory`) of a running container was set to what is allocated.
    pub fn resized(&self, uid: &str, container: &Container, resource: &str) {
        let given = container.resources.clone().unwrap_or_default();
        self.change(uid, |entry| {
            let now = entry.actuated.containers.entry(container.name.clone()).or_default();
            take_over(now, &given, resource);
        });
    }

    /// The same for the pod's own resources.
    pub fn resized_pod(&self, pod: &Pod, resource: &str) {
        let Some(given) = &spec::spec(pod).resources else { return };
        self.change(spec::uid(pod), |entry| {
            take_over(entry.actuated.pod.get_or_insert_default(), given, resource);
        });
    }

    /// The pod is gone; its directory goes by itself.
    pub fn forget(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.config.pod_dir(uid).join(FILE)
    }

    fn change(&self, uid: &str, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock();
        let entry = entries.entry(uid.to_owned()).or_default();
        change(entry);
        if self.config.host
            && let Err(error) = self.save(uid, entry)
        {
            tracing::warn!(pod.uid = uid, %error, "cannot note what a pod was admitted with");
        }
    }

    /// Under the lock, so that an older state never replaces a newer one.
    fn save(&self, uid: &str, entry: &Entry) -> io::Result<()> {
        let path = self.path(uid);
        fs::DirBuilder::new().recursive(true).mode(0o750).create(self.config.pod_dir(uid))?;
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(entry)?)?;
        fs::rename(fresh, path)
    }
}

/// Only CPU and memory change in place.
fn take_over(now: &mut ResourceRequirements, given: &ResourceRequirements, resource: &str) {
    for (now, given) in [(&mut now.requests, &given.requests), (&mut now.limits, &given.limits)] {
        match given.as_ref().and_then(|list| list.get(resource)) {
            Some(quantity) => {
                now.get_or_insert_default().insert(resource.to_owned(), quantity.clone());
            }
            None => {
                now.as_mut().map(|list| list.remove(resource));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(cpu: &str) -> Arc<Pod> {
        let container = json!({"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}});
        let pod = json!({"metadata": {"uid": "u"}, "spec": {"containers": [container]}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn cpu(pod: &Pod) -> String {
        let resources = spec::containers(pod)[0].resources.clone().unwrap_or_default();
        resources.requests.expect("asked")["cpu"].0.clone()
    }

    #[test]
    fn a_restarted_agent_knows_what_was_admitted_and_what_runs() {
        let root = tempfile::tempdir().expect("a directory");
        let config = Arc::new(Config::new("n", root.path()));
        let before = Allocations::new(Arc::clone(&config));
        before.allocate(&pod("1"));
        before.started(&pod("1"), &spec::containers(&pod("1"))[0]);
        before.allocate(&pod("2"));
        let after = Allocations::new(config);
        assert!(after.load("u"));
        assert!(after.differs(&pod("3")));
        assert_eq!(cpu(&after.allocated(&pod("3"))), "2");
        assert_eq!(cpu(&after.as_actuated(&pod("2"))), "1");
        after.resized("u", &spec::containers(&pod("2"))[0], "cpu");
        assert_eq!(cpu(&after.as_actuated(&pod("2"))), "2");
    }

    #[test]
    fn an_unreadable_note_is_as_none() {
        let root = tempfile::tempdir().expect("a directory");
        let config = Arc::new(Config::new("n", root.path()));
        fs::create_dir_all(config.pod_dir("u")).expect("made");
        fs::write(config.pod_dir("u").join(FILE), "{").expect("written");
        assert!(!Allocations::new(config).load("u"));
    }
}
