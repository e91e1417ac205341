//! Random histories against a model too simple to be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use knarr_storage::{
    Durability, Embedded, Error, Event, EventKind, Expect, KeyValue, Memory, Options, Outcome, Range,
    Revision, Store, WatchStream,
};
use proptest::prelude::*;
use tokio::task::coop::unconstrained;

/// One step of a history. Keys and guesses are small numbers, so that steps meet.
#[derive(Debug, Clone)]
enum Step {
    Create {
        key: u8,
        size: u8,
    },
    Update {
        key: u8,
        size: u8,
        right: bool,
    },
    Delete {
        key: u8,
        right: bool,
    },
    /// Reads everything as it was this many revisions ago.
    Read {
        back: u8,
    },
    Page {
        limit: u8,
    },
    Compact {
        back: u8,
    },
    Watch {
        back: u8,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6u8, any::<u8>()).prop_map(|(key, size)| Step::Create { key, size }),
        6 => (0..6u8, any::<u8>(), prop::bool::weighted(0.8))
            .prop_map(|(key, size, right)| Step::Update { key, size, right }),
        3 => (0..6u8, prop::bool::weighted(0.8)).prop_map(|(key, right)| Step::Delete { key, right }),
        2 => (0..12u8).prop_map(|back| Step::Read { back }),
        1 => (1..4u8).prop_map(|limit| Step::Page { limit }),
        1 => (0..6u8).prop_map(|back| Step::Compact { back }),
        1 => (0..12u8).prop_map(|back| Step::Watch { back }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

type Contents = BTreeMap<String, KeyValue>;

/// The whole history, kept as one full copy per revision.
#[derive(Default)]
struct Model {
    revisions: Vec<Contents>,
    changes: Vec<(EventKind, KeyValue)>,
    compacted: u64,
}

impl Model {
    fn new() -> Self {
        Self { revisions: vec![Contents::new()], ..Self::default() }
    }

    fn now(&self) -> &Contents {
        self.revisions.last().expect("never empty")
    }

    fn revision(&self) -> u64 {
        self.changes.len() as u64
    }

    fn back(&self, back: u8) -> Revision {
        Revision(self.revision().saturating_sub(back.into()))
    }

    fn write(&mut self, key: String, value: Option<Bytes>, expect: Expect) -> Outcome {
        let present = self.now().get(&key).cloned();
        let holds = match (&present, expect) {
            (None, Expect::Absent) => value.is_some(),
            (Some(now), Expect::At(at)) => now.mod_revision == at,
            _ => false,
        };
        if !holds {
            return Outcome::Conflict(present);
        }
        let revision = Revision(self.revision() + 1);
        let kind = match (&present, &value) {
            (_, None) => EventKind::Deleted,
            (None, _) => EventKind::Created,
            (Some(_), _) => EventKind::Modified,
        };
        let last = present.as_ref().map(|p| p.value.clone()).unwrap_or_default();
        let after = KeyValue {
            key: key.as_str().into(),
            value: value.unwrap_or(last),
            create_revision: present.map_or(revision, |p| p.create_revision),
            mod_revision: revision,
        };
        let mut contents = self.now().clone();
        if kind == EventKind::Deleted {
            contents.remove(&key);
        } else {
            contents.insert(key, after.clone());
        }
        self.revisions.push(contents);
        self.changes.push((kind, after.clone()));
        Outcome::Committed(after)
    }
}

/// A store under test, what it should be, and watches that have to hear everything from some revision on.
struct Run {
    store: Arc<dyn Store>,
    model: Model,
    watches: Vec<(u64, WatchStream)>,
}

impl Run {
    async fn write(&mut self, key: u8, size: Option<u8>, expect: Expect) {
        let key = format!("/registry/things/{key}");
        let value = size.map(|size| Bytes::from(vec![size; size.into()]));
        let durability =
            if size.is_some_and(|s| s % 3 == 0) { Durability::Batched } else { Durability::Durable };
        let got = match value.clone() {
            Some(value) => self.store.put(&key, value, expect, durability).await,
            None => self.store.delete(&key, expect, durability).await,
        };
        assert_eq!(got.expect("writes do not fail"), self.model.write(key, value, expect));
    }

    fn expectation(&self, key: u8, right: bool) -> Expect {
        let present = self.model.now().get(&format!("/registry/things/{key}"));
        Expect::At(Revision(present.map_or(0, |p| p.mod_revision.0) + u64::from(!right)))
    }

    async fn read(&self, at: Revision) {
        let got = self.store.range(Range { revision: Some(at), ..Range::default() }).await;
        if at.0 < self.model.compacted {
            assert!(matches!(got, Err(Error::Compacted { .. })));
            return;
        }
        let expected: Vec<KeyValue> = self.model.revisions[at.0 as usize].values().cloned().collect();
        assert_eq!(got.expect("reads do not fail").items, expected);
    }

    async fn page(&self, limit: usize) {
        let mut seen = Vec::new();
        loop {
            let start_after = seen.last().map(|kv: &KeyValue| kv.key.to_string());
            let range = Range { prefix: "/registry/".into(), start_after, limit, revision: None };
            let page = self.store.range(range).await.expect("reads do not fail");
            seen.extend(page.items);
            assert_eq!(page.remaining, self.model.now().len() - seen.len());
            if page.remaining == 0 {
                break;
            }
        }
        assert_eq!(seen, self.model.now().values().cloned().collect::<Vec<_>>());
    }

    async fn watch(&mut self, after: Revision) {
        match self.store.watch("/registry/", Some(after)).await {
            Ok(stream) => self.watches.push((after.0, stream)),
            Err(error) => assert!(matches!(error, Error::Compacted { .. }) && after.0 < self.model.compacted),
        }
    }

    /// Every watch has heard exactly the model's changes since it began.
    fn check_watches(&mut self) {
        for (heard, stream) in &mut self.watches {
            // Tokio lets a task only so often have something at once: then what is there would be heard later.
            while let Some(Some(event)) = unconstrained(stream.next()).now_or_never() {
                match event.expect("no watch is cut off") {
                    Event::Change(change) => {
                        let (kind, after) = &self.model.changes[*heard as usize];
                        assert_eq!((change.kind, &change.current), (*kind, after));
                        *heard += 1;
                    }
                    Event::Progress(at) => {
                        assert_eq!(at.0, *heard, "progress only after every change before it")
                    }
                }
            }
            assert_eq!(*heard, self.model.revision());
        }
    }
}

async fn play(
    steps: Vec<Step>,
    store: Arc<dyn Store>,
    mut reopen: impl AsyncFnMut(Arc<dyn Store>) -> Arc<dyn Store>,
) {
    let mut run = Run { store, model: Model::new(), watches: Vec::new() };
    for step in steps {
        match step {
            Step::Create { key, size } => run.write(key, Some(size), Expect::Absent).await,
            Step::Update { key, size, right } => {
                run.write(key, Some(size), run.expectation(key, right)).await
            }
            Step::Delete { key, right } => run.write(key, None, run.expectation(key, right)).await,
            Step::Read { back } => run.read(run.model.back(back)).await,
            Step::Page { limit } => run.page(limit.into()).await,
            Step::Compact { back } => {
                let below = run.model.back(back);
                run.store.compact(below).await.expect("compacts");
                run.model.compacted = run.model.compacted.max(below.0);
            }
            Step::Watch { back } => run.watch(run.model.back(back)).await,
            Step::Restart => {
                run.check_watches();
                run.watches.clear();
                run.store = reopen(run.store).await;
            }
        }
        run.check_watches();
        assert_eq!(run.store.revision().await.expect("revision").0, run.model.revision());
    }
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn memory_agrees_with_the_model(steps in steps()) {
        block_on(play(steps, Arc::new(Memory::new()), async |store| store));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn embedded_agrees_with_the_model_over_restarts(steps in steps()) {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Arc::new(Embedded::open(directory.path(), &Options::default()).expect("opens"));
        block_on(play(steps, open(), async |store: Arc<dyn Store>| {
            store.close().await.expect("closes");
            drop(store);
            open() as Arc<dyn Store>
        }));
    }
}
