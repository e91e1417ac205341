//! One play: trouble, then peace, then the end of everything.

use std::sync::Arc;
use std::time::Duration;

use knarr_api::time::{SeededRandom, SharedClock, SharedRandom};
use knarr_testkit::TokioClock;
use tokio::time::{Instant, sleep};

use crate::components::{Component, KINDS, Parts};
use crate::faults::Faults;
use crate::observer::Observer;
use crate::servers::{Keys, Servers};
use crate::settled;
use crate::users::Users;

/// How often users act.
const ROUNDS: u64 = 24;
/// The longest pause between two of their acts, and the longest time that something is down, in milliseconds.
const PAUSE: u64 = 20_000;
const DOWN: u64 = 15_000;
/// How long it may take until all is as asked: longer than expectations, evictions and back-offs last.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

pub async fn play(seed: u64, keys: &Keys) {
    let chance: SharedRandom = Arc::new(SeededRandom::new(seed));
    let clock: SharedClock = Arc::new(TokioClock::new());
    let servers = Servers::start(keys, clock.clone(), chance.clone()).await;
    let faults = Faults::new(chance.clone());
    let observer = Observer::start(servers.admin(), chance.clone(), faults.clone());
    let mut users = Users::new(servers.admin(), chance.clone());
    users.prepare().await;
    let parts = Parts { servers, faults, clock, random: chance.clone() };
    let mut components: Vec<Component> = KINDS.map(|kind| Component::start(kind, &parts)).into();
    for _ in 0..ROUNDS {
        users.act().await;
        sleep(Duration::from_millis(chance.below(PAUSE))).await;
        cause_trouble(&mut components, &parts, &chance).await;
        observer.check();
    }
    parts.faults.end();
    users.uncordon_all().await;
    let client = parts.servers.admin();
    until(&observer, || settled::unsettled(&client)).await;
    users.leave().await;
    until(&observer, || settled::remaining(&client)).await;
    for component in &mut components {
        component.stop().await;
    }
    observer.stop().await;
    parts.servers.crash();
}

/// Now and then a component or the server crashes, and another comes in its place.
async fn cause_trouble(components: &mut [Component], parts: &Parts, chance: &SharedRandom) {
    let down = Duration::from_millis(chance.below(DOWN));
    match chance.below(10) {
        pick @ 0..=2 => {
            let place = &mut components[pick as usize];
            place.crash().await;
            sleep(down).await;
            *place = Component::start(KINDS[pick as usize], parts);
        }
        3 => {
            parts.servers.crash();
            sleep(down).await;
            parts.servers.replace().await;
        }
        _ => {}
    }
}

/// Waits until nothing is left to be said.
async fn until<F: Future<Output = Option<String>>>(observer: &Observer, what_is_left: impl Fn() -> F) {
    let began = Instant::now();
    while let Some(left) = what_is_left().await {
        assert!(began.elapsed() < PATIENCE, "after {PATIENCE:?}: {left}");
        observer.check();
        sleep(Duration::from_secs(5)).await;
    }
    observer.check();
}
