//! Kills a writing process hundreds of times, at random moments, and finds every acknowledged write again.
//!
//! Without a harness, because it starts itself as the process that dies.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use knarr_storage::{Durability, Embedded, Expect, Options, Outcome, Range, Revision, Store};

const ROUNDS: u64 = 200;
const WRITERS: u64 = 8;
const KEYS_PER_WRITER: u64 = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|a| a == "writer") {
        write_until_killed(Path::new(&arguments[2]), arguments[3].parse().expect("a round"));
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|a| a == "--list") {
        println!("every_acknowledged_write_survives_kill_9: test");
        return ExitCode::SUCCESS;
    }
    every_acknowledged_write_survives_kill_9();
    println!("\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::SUCCESS
}

/// Eight tasks overwrite, delete and re-create their own keys, and print each write once it is acknowledged:
/// `key revision label` with `-` for a deletion; the value is the label and some padding.
fn write_until_killed(directory: &Path, round: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Arc::new(Embedded::open(directory, &Options::default()).expect("opens"));
        let compactor = store.clone();
        tokio::spawn(async move {
            loop {
                let revision = compactor.revision().await.expect("revision");
                compactor.compact(revision).await.expect("compacts");
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
        let writers: Vec<_> =
            (0..WRITERS).map(|w| tokio::spawn(write_forever(store.clone(), w, round))).collect();
        for writer in writers {
            writer.await.expect("no panic");
        }
    });
}

async fn write_forever(store: Arc<Embedded>, writer: u64, round: u64) {
    let mut state = random::State::new(round * WRITERS + writer);
    for count in 0u64.. {
        let key = format!("/w{writer}/{}", state.next() % KEYS_PER_WRITER);
        let (present, _) = store.get(&key).await.expect("get");
        let delete = present.is_some() && state.next().is_multiple_of(4);
        let label = format!("{round}-{count}-");
        let value = format!("{label}{}", "x".repeat((state.next() % 2_000) as usize));
        let outcome = match (&present, delete) {
            (Some(now), true) => store.delete(&key, Expect::At(now.mod_revision), Durability::Durable).await,
            (now, _) => {
                let expect = now.as_ref().map_or(Expect::Absent, |now| Expect::At(now.mod_revision));
                store.put(&key, Bytes::from(value), expect, Durability::Durable).await
            }
        };
        let Outcome::Committed(now) = outcome.expect("writes do not fail") else {
            panic!("each writer has its own keys")
        };
        // One short write, so that the kill cannot cut the line.
        let line = format!("{key} {} {}\n", now.mod_revision, if delete { "-" } else { &label });
        let mut out = std::io::stdout().lock();
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn every_acknowledged_write_survives_kill_9() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut state = random::State::new(42);
    let mut acknowledged: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut writes = 0;
    for round in 0..ROUNDS {
        let lines = run_and_kill(directory.path(), round, 1 + state.next() % 60);
        writes += lines.len();
        for line in lines {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let (Some(key), Some(revision), Some(value)) = (words.next(), words.next(), words.next()) else {
                panic!("a broken line: {line:?}")
            };
            acknowledged.insert(key, (revision.parse().expect("a revision"), value));
        }
        check(directory.path(), &acknowledged, round);
    }
    println!("{ROUNDS} kills, {writes} acknowledged writes, none lost");
    assert!(writes > ROUNDS as usize, "the writers hardly wrote");
}

/// Starts a writer, lets it acknowledge `count` writes, kills it, and returns all it acknowledged.
fn run_and_kill(directory: &Path, round: u64, count: u64) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["writer", &directory.display().to_string(), &round.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut seen: Vec<String> = lines.by_ref().take(count as usize).map(|l| l.expect("a line")).collect();
    child.kill().expect("kills");
    child.wait().expect("reaps");
    // What was in the pipe was acknowledged too.
    seen.extend(lines.map_while(Result::ok));
    seen
}

fn check(directory: &Path, acknowledged: &BTreeMap<String, (u64, String)>, round: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Embedded::open(directory, &Options::default()).expect("opens after a kill");
        let all = store.range(Range::default()).await.expect("range");
        let present: BTreeMap<&str, (Revision, &[u8])> =
            all.items.iter().map(|kv| (&*kv.key, (kv.mod_revision, &kv.value[..]))).collect();
        for (key, (revision, value)) in acknowledged {
            assert!(all.revision.0 >= *revision, "round {round}: the store went back to {}", all.revision);
            match (present.get(key.as_str()), value.as_str()) {
                // Newer than acknowledged: the write whose answer the kill swallowed.
                (Some((now, _)), _) if now.0 > *revision => {}
                (Some((now, bytes)), label) => {
                    let found = std::str::from_utf8(bytes).expect("text").trim_end_matches('x');
                    assert_eq!((now.0, found), (*revision, label), "round {round}: {key} is another")
                }
                (None, "-") => {}
                (None, _) => {
                    assert!(all.revision.0 > *revision, "round {round}: {key} at {revision} is lost");
                    assert_deleted_later(&store, key, *revision, round).await;
                }
            }
        }
        store.close().await.expect("closes");
    });
}

/// A key may be gone by a deletion whose answer was swallowed; anything else is a lost write. Deletions above the
/// compacted revision are still in the history, and below it the key can only have been removed by one.
async fn assert_deleted_later(store: &Embedded, key: &str, revision: u64, round: u64) {
    use futures::{FutureExt, StreamExt};
    use knarr_storage::{Error, Event, EventKind};
    use tokio::task::coop::unconstrained;
    match store.watch(key, Some(Revision(revision))).await {
        Ok(mut stream) => {
            let mut deleted = false;
            // Tokio lets a task only so often have something at once: then what is there would be heard later.
            while let Some(Some(Ok(event))) = unconstrained(stream.next()).now_or_never() {
                deleted |= matches!(event, Event::Change(change) if change.kind == EventKind::Deleted);
            }
            assert!(deleted, "round {round}: {key} at {revision} is lost");
        }
        Err(Error::Compacted { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// A repeatable sequence, so that a failing round can be run again.
mod random {
    pub struct State(u64);

    impl State {
        pub fn new(seed: u64) -> Self {
            Self(seed)
        }

        pub fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }
    }
}
