//! What only a store on a disk can get wrong.

use std::os::unix::fs::PermissionsExt;

use knarr_storage::{
    Durability, Embedded, Error, EventKind, Expect, Options, Outcome, Range, Revision, Store,
    inspect_snapshot, restore_snapshot,
};

#[path = "suite/steps.rs"]
mod steps;
use steps::{delete, next_change, put};

fn open(directory: &std::path::Path) -> Embedded {
    Embedded::open(directory, &Options::default()).expect("opens")
}

#[tokio::test]
async fn a_watch_resumes_over_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let a = put(&store, "/a", "1", Expect::Absent).await;
    let a2 = put(&store, "/a", "2", Expect::At(a.mod_revision)).await;
    delete(&store, "/a", a2.mod_revision).await;
    store.close().await.expect("close");
    drop(store);
    let store = open(directory.path());
    let mut stream = store.watch("/", Some(a.mod_revision)).await.expect("watch");
    assert_eq!(next_change(&mut stream).await, (EventKind::Modified, "/a".into(), a2.mod_revision));
    assert_eq!(next_change(&mut stream).await.0, EventKind::Deleted);
}

#[tokio::test]
async fn revisions_never_go_back_even_when_the_last_write_is_compacted_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let a = put(&store, "/a", "1", Expect::Absent).await;
    let gone = delete(&store, "/a", a.mod_revision).await;
    store.compact(gone.mod_revision).await.expect("compact");
    store.close().await.expect("close");
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.revision().await.expect("revision"), gone.mod_revision);
    assert_eq!(put(&store, "/b", "1", Expect::Absent).await.mod_revision, Revision(gone.mod_revision.0 + 1));
}

#[tokio::test]
async fn batched_writes_are_there_after_an_orderly_stop() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    store.put("/lease", "1".into(), Expect::Absent, Durability::Batched).await.expect("put");
    store.close().await.expect("close");
    drop(store);
    assert!(open(directory.path()).get("/lease").await.expect("get").0.is_some());
}

#[tokio::test]
async fn a_second_process_is_refused_and_the_file_is_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let second = Embedded::open(directory.path(), &Options::default());
    assert!(matches!(second, Err(Error::InUse { path }) if path.ends_with("store.redb")));
    let mode = std::fs::metadata(store.path()).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_full_store_refuses_growth_and_heals_by_deletion() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { max_bytes: 10_000, ..Options::default() };
    let store = Embedded::open(directory.path(), &options).expect("opens");
    let large = || vec![b'x'; 6_000].into();
    let Ok(Outcome::Committed(a)) = store.put("/a", large(), Expect::Absent, Durability::Durable).await
    else {
        panic!("the first value fits")
    };
    let second = store.put("/b", large(), Expect::Absent, Durability::Durable).await;
    assert!(matches!(second, Err(Error::NoSpace { limit: 10_000, .. })));
    let gone = delete(&store, "/a", a.mod_revision).await;
    store.compact(gone.mod_revision).await.expect("compact");
    assert_eq!(store.size().await.expect("size"), 0);
    let again = store.put("/b", large(), Expect::Absent, Durability::Durable).await.expect("put");
    assert!(matches!(again, Outcome::Committed(_)));
}

#[tokio::test]
async fn overwriting_one_key_does_not_grow_the_file_without_bound() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let mut at = put(&store, "/a", "0", Expect::Absent).await.mod_revision;
    let mut sizes = Vec::new();
    for _ in 0..6 {
        for _ in 0..500 {
            let value = vec![b'x'; 4_096].into();
            let outcome = store.put("/a", value, Expect::At(at), Durability::Batched).await.expect("put");
            let Outcome::Committed(now) = outcome else { panic!("nobody else writes") };
            at = now.mod_revision;
        }
        store.compact(at).await.expect("compact");
        sizes.push(std::fs::metadata(store.path()).expect("metadata").len());
    }
    assert!(sizes[5] <= sizes[1] * 2, "12 MB of overwrites made the file grow: {sizes:?}");
}

#[tokio::test]
async fn a_snapshot_is_a_store_with_the_same_objects_and_revision() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory.path().join("live"));
    let a = put(&store, "/a", "1", Expect::Absent).await;
    put(&store, "/b", "1", Expect::Absent).await;
    let b = store.get("/b").await.expect("get").0.expect("there");
    put(&store, "/a", "2", Expect::At(a.mod_revision)).await;
    delete(&store, "/b", b.mod_revision).await;
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).expect("a directory");
    let revision = store.save_snapshot(&copy.join("store.redb")).await.expect("snapshot");
    let restored = open(&copy);
    let (original, found) = (store.range(Range::default()).await, restored.range(Range::default()).await);
    let (original, found) = (original.expect("range"), found.expect("range"));
    assert_eq!((original.items, original.revision), (found.items, found.revision));
    assert_eq!(revision, restored.revision().await.expect("revision"));
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").expect("write");
    let error = Embedded::open(&file, &Options::default()).expect_err("a file is no directory");
    assert!(
        error.to_string().starts_with("store unavailable while creating the store's directory"),
        "{error}"
    );
}

#[tokio::test]
async fn a_snapshot_says_what_it_holds_and_takes_the_stores_place() {
    let dir = tempfile::tempdir().expect("directory");
    let (home, file) = (dir.path().join("store"), dir.path().join("snapshot"));
    let store = Embedded::open(&home, &Options::default()).expect("opens");
    for (key, value) in [("/a", "1"), ("/b", "2")] {
        store.put(key, value.into(), Expect::Absent, Durability::Durable).await.expect("put");
    }
    let revision = store.save_snapshot(&file).await.expect("saves");
    assert!(store.save_snapshot(&file).await.is_err(), "a file that exists is left alone");
    store.put("/c", "3".into(), Expect::Absent, Durability::Durable).await.expect("put");
    let info = inspect_snapshot(&file).expect("reads");
    assert_eq!((info.revision, info.keys, info.bytes), (revision, 2, 6));
    store.close().await.expect("closes");
    drop(store);

    assert_eq!(restore_snapshot(&file, &home).expect("restores"), info);
    let store = Embedded::open(&home, &Options::default()).expect("opens");
    assert_eq!(store.revision().await.expect("revision"), revision);
    assert_eq!(store.get("/b").await.expect("get").0.expect("there").value, "2");
    assert!(store.get("/c").await.expect("get").0.is_none(), "written after the snapshot");
    store.close().await.expect("closes");
    assert!(inspect_snapshot(&dir.path().join("nothing")).is_err());
    assert!(!dir.path().join("nothing").exists());
}
