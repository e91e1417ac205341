//! The one way in which a controller is wired: the caches it reads, what their changes mean for which key, a queue,
//! and workers that begin when the caches are full.

use std::{fmt::Display, hash::Hash, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use knarr_client::{
    Cached, Change, ObjectKey, Reconcile, Selection, SharedInformer, WorkQueue, expectations::Expectations,
    queue::QueueConfig, runner,
};
use kube::Resource;

use crate::Context;

/// A controller that is being wired.
pub(crate) struct Wiring<T> {
    context: Context,
    name: &'static str,
    queue: Arc<WorkQueue<T>>,
    caches: Vec<BoxFuture<'static, ()>>,
}

impl Context {
    /// Begins the wiring of a controller whose queue and workers carry this name.
    pub(crate) fn wire<T: Clone + Eq + Hash>(&self, name: &'static str) -> Wiring<T> {
        self.wire_with(name, QueueConfig::default())
    }

    /// The same, with retries other than the usual ones.
    pub(crate) fn wire_with<T: Clone + Eq + Hash>(
        &self,
        name: &'static str,
        config: QueueConfig,
    ) -> Wiring<T> {
        Wiring {
            context: self.clone(),
            name,
            queue: Arc::new(WorkQueue::named(name, config)),
            caches: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + Hash + Display + Send + Sync + 'static> Wiring<T> {
    /// The shared cache of a kind, which must be full before work begins.
    pub(crate) fn cache<K: Cached + Resource<DynamicType = ()>>(&mut self) -> SharedInformer<K> {
        self.select(Selection::all::<K>())
    }

    /// The same of a selection.
    pub(crate) fn select<K: Cached>(&mut self, selection: Selection) -> SharedInformer<K> {
        let informer = self.context.informers.select::<K>(selection);
        let waited_for = informer.clone();
        self.caches.push(async move { waited_for.synced().await }.boxed());
        informer
    }

    /// Queues the keys that a change of an object concerns.
    pub(crate) fn on<K: Cached, I: IntoIterator<Item = T>>(
        &self,
        informer: &SharedInformer<K>,
        concerns: impl Fn(&Change<'_, K>) -> I + Send + Sync + 'static,
    ) {
        let queue = Arc::clone(&self.queue);
        informer
            .subscribe(move |change| concerns(&change).into_iter().for_each(|key| queue.add(key)))
            .forever();
    }

    pub(crate) fn queue(&self) -> Arc<WorkQueue<T>> {
        Arc::clone(&self.queue)
    }

    /// The controller's task: waits for its caches, then works until shutdown.
    pub(crate) fn run<R: Reconcile<Key = T>>(self, workers: usize, reconciler: R) -> BoxFuture<'static, ()> {
        let Self { context, name, queue, caches } = self;
        async move {
            let full = futures::future::join_all(caches);
            if context.shutdown.run_until_cancelled(full).await.is_some() {
                runner::run(name, workers, queue, Arc::new(reconciler), context.shutdown).await;
            }
        }
        .boxed()
    }
}

impl Wiring<ObjectKey> {
    /// The cache of the kind that is reconciled: every change queues the object itself.
    pub(crate) fn root<K: Cached + Resource<DynamicType = ()>>(&mut self) -> SharedInformer<K> {
        let informer = self.cache::<K>();
        self.follow(&informer);
        informer
    }

    /// Queues every object of a cache under its own key.
    pub(crate) fn follow<K: Cached>(&self, informer: &SharedInformer<K>) {
        self.on(informer, |change| [ObjectKey::of(&**change.object())]);
    }

    /// Like [`Self::root`] for a controller with expectations: those of a predecessor end with it, before a
    /// successor of the same name is looked at.
    pub(crate) fn expectant_root<K: Cached + Resource<DynamicType = ()>>(
        &mut self,
        expectations: &Arc<Expectations>,
    ) -> SharedInformer<K> {
        let (informer, expectations) = (self.cache::<K>(), Arc::clone(expectations));
        self.on(&informer, move |change| {
            let key = ObjectKey::of(&**change.object());
            if matches!(change, Change::Deleted { .. }) {
                expectations.forget(&key);
            }
            [key]
        });
        informer
    }
}
