//! What every store promises, asked of whichever store is passed in.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use knarr_storage::{Durability::Durable, Error, Event, EventKind, Expect, Outcome, Range, Revision, Store};

pub mod steps;
use steps::{delete, next_change, put};

pub async fn conflicts_show_the_present_and_change_nothing(store: Arc<dyn Store>) {
    let first = put(&*store, "/a", "1", Expect::Absent).await;
    let again = store.put("/a", "2".into(), Expect::Absent, Durable).await.expect("put");
    assert_eq!(again, Outcome::Conflict(Some(first.clone())));
    let stale = store.put("/a", "2".into(), Expect::At(Revision(77)), Durable).await.expect("put");
    assert_eq!(stale, Outcome::Conflict(Some(first.clone())));
    let missing = store.delete("/b", Expect::At(Revision(1)), Durable).await.expect("delete");
    assert_eq!(missing, Outcome::Conflict(None));
    let absurd = store.delete("/a", Expect::Absent, Durable).await.expect("delete");
    assert_eq!(absurd, Outcome::Conflict(Some(first.clone())));
    assert_eq!(store.get("/a").await.expect("get"), (Some(first.clone()), first.mod_revision));
}

pub async fn revisions_are_global_and_survive_in_create_revision(store: Arc<dyn Store>) {
    let before = store.revision().await.expect("revision");
    let a = put(&*store, "/a", "1", Expect::Absent).await;
    let b = put(&*store, "/b", "1", Expect::Absent).await;
    let a2 = put(&*store, "/a", "2", Expect::At(a.mod_revision)).await;
    assert_eq!(a.mod_revision.0, before.0 + 1);
    assert_eq!(b.mod_revision.0, before.0 + 2);
    assert_eq!((a2.mod_revision.0, a2.create_revision), (before.0 + 3, a.mod_revision));
    let gone = delete(&*store, "/a", a2.mod_revision).await;
    assert_eq!((gone.mod_revision.0, &gone.value[..]), (before.0 + 4, b"2".as_slice()));
    let reborn = put(&*store, "/a", "3", Expect::Absent).await;
    assert_eq!(reborn.create_revision, reborn.mod_revision);
}

pub async fn ranges_page_at_one_revision(store: Arc<dyn Store>) {
    let mut last = Revision::default();
    for key in ["/pods/a", "/pods/b", "/pods/c", "/pods/d", "/podtemplates/x"] {
        last = put(&*store, key, "1", Expect::Absent).await.mod_revision;
    }
    let page = |after: Option<&str>, revision| Range {
        prefix: "/pods/".into(),
        start_after: after.map(Into::into),
        limit: 2,
        revision,
    };
    let first = store.range(page(None, None)).await.expect("range");
    assert_eq!((first.items.len(), first.remaining, first.revision), (2, 2, last));
    let c = store.get("/pods/c").await.expect("get").0.expect("there");
    delete(&*store, "/pods/c", c.mod_revision).await;
    put(&*store, "/pods/e", "1", Expect::Absent).await;
    let second = store.range(page(Some("/pods/b"), Some(first.revision))).await.expect("range");
    let keys: Vec<&str> = second.items.iter().map(|kv| &*kv.key).collect();
    assert_eq!((keys, second.remaining), (vec!["/pods/c", "/pods/d"], 0));
    let now = store.range(Range { prefix: "/pods/".into(), ..Range::default() }).await.expect("range");
    let keys: Vec<&str> = now.items.iter().map(|kv| &*kv.key).collect();
    assert_eq!(keys, ["/pods/a", "/pods/b", "/pods/d", "/pods/e"]);
    let future = Range { revision: Some(Revision(now.revision.0 + 1)), ..Range::default() };
    assert!(matches!(store.range(future).await, Err(Error::Future { .. })));
}

pub async fn a_watch_resumes_without_gap_or_repeat(store: Arc<dyn Store>) {
    let a = put(&*store, "/pods/a", "1", Expect::Absent).await;
    put(&*store, "/nodes/n", "1", Expect::Absent).await;
    let a2 = put(&*store, "/pods/a", "2", Expect::At(a.mod_revision)).await;
    let mut resumed = store.watch("/pods/", Some(a.mod_revision)).await.expect("watch");
    let mut fresh = store.watch("/pods/", None).await.expect("watch");
    assert_eq!(next_change(&mut resumed).await, (EventKind::Modified, "/pods/a".into(), a2.mod_revision));
    let gone = delete(&*store, "/pods/a", a2.mod_revision).await;
    for stream in [&mut resumed, &mut fresh] {
        assert_eq!(next_change(stream).await, (EventKind::Deleted, "/pods/a".into(), gone.mod_revision));
    }
}

pub async fn changes_carry_what_was_there_before(store: Arc<dyn Store>) {
    let mut stream = store.watch("/a", None).await.expect("watch");
    let a = put(&*store, "/a", "1", Expect::Absent).await;
    let a2 = put(&*store, "/a", "2", Expect::At(a.mod_revision)).await;
    delete(&*store, "/a", a2.mod_revision).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        if let Some(Ok(Event::Change(change))) = stream.next().await {
            seen.push((change.previous.map(|p| p.value), change.current.value));
        }
    }
    let one = Bytes::from_static(b"1");
    let two = Bytes::from_static(b"2");
    assert_eq!(seen, [(None, one.clone()), (Some(one), two.clone()), (Some(two.clone()), two)]);
}

pub async fn progress_follows_everything_before_it(store: Arc<dyn Store>) {
    let mut stream = store.watch("/quiet/", None).await.expect("watch");
    let start = store.revision().await.expect("revision");
    assert!(matches!(stream.next().await, Some(Ok(Event::Progress(at))) if at == start));
    put(&*store, "/quiet/a", "1", Expect::Absent).await;
    let last = put(&*store, "/loud/a", "1", Expect::Absent).await.mod_revision;
    store.request_progress("/quiet/").await.expect("request");
    assert!(matches!(stream.next().await, Some(Ok(Event::Change(_)))));
    // A store may have to write something of its own to know.
    assert!(matches!(stream.next().await, Some(Ok(Event::Progress(at))) if at >= last));
}

pub async fn compaction_keeps_the_newest_and_refuses_the_past(store: Arc<dyn Store>) {
    let a = put(&*store, "/a", "1", Expect::Absent).await;
    let b = put(&*store, "/b", "1", Expect::Absent).await;
    let a2 = put(&*store, "/a", "2", Expect::At(a.mod_revision)).await;
    let gone = delete(&*store, "/b", b.mod_revision).await;
    let a3 = put(&*store, "/a", "3", Expect::At(a2.mod_revision)).await;
    store.compact(gone.mod_revision).await.expect("compact");
    let past = Range { revision: Some(a.mod_revision), ..Range::default() };
    assert!(matches!(store.range(past).await, Err(Error::Compacted { .. })));
    assert!(matches!(store.watch("/", Some(a.mod_revision)).await, Err(Error::Compacted { .. })));
    let kept = Range { prefix: "/".into(), revision: Some(gone.mod_revision), ..Range::default() };
    assert_eq!(store.range(kept).await.expect("range").items, [a2]);
    let mut stream = store.watch("/", Some(gone.mod_revision)).await.expect("watch");
    assert_eq!(next_change(&mut stream).await, (EventKind::Modified, "/a".into(), a3.mod_revision));
    assert_eq!(store.get("/a").await.expect("get").0, Some(a3));
}

pub async fn a_closed_store_ends_watches_and_refuses(store: Arc<dyn Store>) {
    let mut stream = store.watch("/", None).await.expect("watch");
    store.close().await.expect("close");
    while let Some(event) = stream.next().await {
        assert!(matches!(event, Ok(Event::Progress(_))));
    }
    assert!(matches!(store.get("/a").await, Err(Error::Closed)));
    assert!(matches!(store.put("/a", "1".into(), Expect::Absent, Durable).await, Err(Error::Closed)));
}

/// Of many writers that raise one counter by compare-and-swap, none loses an increment.
pub async fn racing_writers_lose_no_update(store: Arc<dyn Store>) {
    put(&*store, "/counter", "0", Expect::Absent).await;
    let raise = |store: Arc<dyn Store>| async move {
        for _ in 0..25 {
            loop {
                let (now, _) = store.get("/counter").await.expect("get");
                let now = now.expect("there");
                let count: u64 = std::str::from_utf8(&now.value).expect("text").parse().expect("number");
                let next = Bytes::from((count + 1).to_string());
                let outcome = store.put("/counter", next, Expect::At(now.mod_revision), Durable).await;
                if matches!(outcome.expect("put"), Outcome::Committed(_)) {
                    break;
                }
            }
        }
    };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(raise(store.clone()))).collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(store.get("/counter").await.expect("get").0.expect("there").value, "200");
}
