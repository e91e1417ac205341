//! One informer per resource and process, whoever asks for it.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use knarr_api::time::SharedRandom;
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use super::{LineageInformer, Selection, SharedInformer, reflector::Reflector};
use crate::object::{Cached, Skeleton};

/// Pause before a reflector that panicked (in a handler, most likely) is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Hands out shared informers and owns the tasks that feed them. Cloning shares everything.
///
/// Informers asked for before [`InformerFactory::start`] begin with it, so that handlers and indices can be put
/// in place first; later ones begin at once.
#[derive(Clone)]
pub struct InformerFactory(Arc<Inner>);

struct Inner {
    client: Client,
    random: SharedRandom,
    stop: CancellationToken,
    tasks: TaskTracker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: bool,
    informers: HashMap<(TypeId, Selection), Entry>,
}

struct Entry {
    /// A `SharedInformer<K>` of the `K` whose `TypeId` is in the key.
    informer: Box<dyn Any + Send + Sync>,
    /// The same, for those who do not care what `K` is; only if it keeps the lineage of its objects.
    lineages: Option<Arc<dyn LineageInformer>>,
    stop: CancellationToken,
    launch: Option<Box<dyn FnOnce() + Send>>,
}

impl InformerFactory {
    pub fn new(client: Client, random: SharedRandom) -> Self {
        Self(Arc::new(Inner {
            client,
            random,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            state: Mutex::default(),
        }))
    }

    /// The informer over all objects of `K`.
    pub fn informer<K: Cached + Resource<DynamicType = ()>>(&self) -> SharedInformer<K> {
        self.select(Selection::all::<K>())
    }

    /// The informer over a selection, decoded as `K` (which may hold only some of the fields).
    pub fn select<K: Cached>(&self, selection: Selection) -> SharedInformer<K> {
        let mut state = self.0.state.lock();
        let key = (TypeId::of::<K>(), selection);
        if let Some(entry) = state.informers.get(&key) {
            return entry
                .informer
                .downcast_ref::<SharedInformer<K>>()
                .expect("the key names the type")
                .clone();
        }
        let informer = SharedInformer::<K>::new(key.1.clone());
        let stop = self.0.stop.child_token();
        let launch = self.launcher(informer.clone(), stop.clone());
        let launch = if state.started {
            launch();
            None
        } else {
            Some(launch)
        };
        let lineages = K::KEEPS_LINEAGE.then(|| Arc::new(informer.clone()) as Arc<dyn LineageInformer>);
        state.informers.insert(key, Entry { informer: Box::new(informer.clone()), lineages, stop, launch });
        informer
    }

    /// Any informer over a selection, whatever it decodes its objects as: garbage collection adds no second cache
    /// to what others already hold.
    pub fn lineages(&self, selection: &Selection) -> Arc<dyn LineageInformer> {
        let held = self.0.state.lock().informers.iter().find_map(|((_, other), entry)| {
            entry.lineages.as_ref().filter(|_| other == selection).map(Arc::clone)
        });
        held.unwrap_or_else(|| Arc::new(self.select::<Skeleton>(selection.clone())))
    }

    /// Ends the watch of a selection that nobody needs any more, as when its CRD is gone.
    pub fn release<K: Cached>(&self, selection: &Selection) {
        let key = (TypeId::of::<K>(), selection.clone());
        if let Some(entry) = self.0.state.lock().informers.remove(&key) {
            entry.stop.cancel();
        }
    }

    /// Begins all watches. Must be called inside a tokio runtime.
    pub fn start(&self) {
        let mut state = self.0.state.lock();
        state.started = true;
        for entry in state.informers.values_mut() {
            if let Some(launch) = entry.launch.take() {
                launch();
            }
        }
    }

    /// Ends all watches and waits until their tasks are gone.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn launcher<K: Cached>(
        &self,
        informer: SharedInformer<K>,
        stop: CancellationToken,
    ) -> Box<dyn FnOnce() + Send> {
        let (client, random, tasks) =
            (self.0.client.clone(), Arc::clone(&self.0.random), self.0.tasks.clone());
        Box::new(move || {
            tasks.spawn(supervise(client, random, informer, stop));
        })
    }
}

/// Runs a reflector, and runs it anew should it panic: a cache that silently stopped would be worse.
async fn supervise<K: Cached>(
    client: Client,
    random: SharedRandom,
    informer: SharedInformer<K>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let reflector =
            Reflector { client: client.clone(), informer: informer.clone(), random: Arc::clone(&random) };
        if AssertUnwindSafe(reflector.run(stop.clone())).catch_unwind().await.is_err() {
            error!(selection = %informer.selection(), "informer panicked, starting it again");
            stop.run_until_cancelled(tokio::time::sleep(RESTART_PAUSE)).await;
        }
    }
}
