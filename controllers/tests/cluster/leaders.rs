use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use knarr_api::time::SeededRandom;
use knarr_client::leader::{Config, LeaderElector};
use knarr_testkit::TokioClock;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::harness::Cluster;

#[tokio::test(start_paused = true)]
async fn of_two_candidates_one_leads_and_the_other_takes_over() {
    let cluster = Cluster::start().await;
    let leading = Arc::new(AtomicI32::new(0));
    let (sender, mut leaders) = mpsc::unbounded_channel();
    let candidate = |name: &'static str, seed| {
        let stop = CancellationToken::new();
        let elector = LeaderElector::new(
            cluster.client.clone(),
            Config::new("test", name),
            Arc::new(TokioClock::new()),
            Arc::new(SeededRandom::new(seed)),
        );
        let (token, leading, sender) = (stop.clone(), Arc::clone(&leading), sender.clone());
        let running = tokio::spawn(async move {
            elector
                .run(token, |lost| {
                    let (leading, sender) = (Arc::clone(&leading), sender.clone());
                    async move {
                        assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "two lead at once");
                        sender.send(name).unwrap();
                        lost.cancelled().await;
                        leading.fetch_sub(1, Ordering::SeqCst);
                    }
                })
                .await;
        });
        (stop, running)
    };
    let (stop, first) = candidate("first", 1);
    assert_eq!(leaders.recv().await, Some("first"));
    let (stop_second, second) = candidate("second", 2);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(leaders.try_recv().is_err(), "the first renews its lease");
    let given_back = Instant::now();
    stop.cancel();
    first.await.unwrap();
    assert_eq!(leaders.recv().await, Some("second"));
    assert!(given_back.elapsed() < Duration::from_secs(10), "a lease given back need not expire first");
    stop_second.cancel();
    second.await.unwrap();
    cluster.stop().await;
}
