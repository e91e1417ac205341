//! Runs the shared suite against every store.

mod etcd;
mod suite;

use std::sync::Arc;

use knarr_storage::{Embedded, Memory, Options, Store};

macro_rules! every_store_keeps {
    ($($promise:ident)*) => {
        mod memory {
            use super::*;
            $(#[tokio::test] async fn $promise() { suite::$promise(Arc::new(Memory::new())).await })*
        }
        mod embedded {
            use super::*;
            $(#[tokio::test] async fn $promise() {
                let directory = tempfile::tempdir().expect("a directory");
                let store: Arc<dyn Store> =
                    Arc::new(Embedded::open(directory.path(), &Options::default()).expect("opens"));
                suite::$promise(store).await
            })*
        }
        mod on_etcd {
            use super::*;
            $(#[tokio::test] async fn $promise() {
                let server = etcd::Server::start();
                suite::$promise(server.store().await).await
            })*
        }
    };
}

every_store_keeps! {
    conflicts_show_the_present_and_change_nothing
    revisions_are_global_and_survive_in_create_revision
    ranges_page_at_one_revision
    a_watch_resumes_without_gap_or_repeat
    changes_carry_what_was_there_before
    progress_follows_everything_before_it
    compaction_keeps_the_newest_and_refuses_the_past
    a_closed_store_ends_watches_and_refuses
    racing_writers_lose_no_update
}
