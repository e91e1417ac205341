//! The whole control plane on virtual time: API server, controllers, scheduler and simulated nodes in one thread, from
//! a seed. Requests are late, refused, or carried out without an answer, watches break and repeat themselves,
//! components and the server crash, and users change their minds meanwhile. What must never happen does not, and when
//! the trouble ends all becomes as asked.
//!
//! A few seeds run always; `KNARR_SIMULATION_PLAYS=500` runs as many, and with `KNARR_SIMULATION_SEED=17` that one as
//! often. All faults and all acts come from the seed; the order in which hash maps are walked does not, so that a rare
//! failure may need several plays of its seed.

mod components;
mod faults;
mod observer;
mod play;
mod servers;
mod settled;
mod users;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use servers::Keys;

/// As many as take a few seconds together.
const PLAYS: u64 = 2;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn the_control_plane_keeps_its_promises_whatever_fails() {
    let (only, plays) = (setting("KNARR_SIMULATION_SEED"), setting("KNARR_SIMULATION_PLAYS"));
    let plays = plays.unwrap_or(if only.is_some() { 1 } else { PLAYS });
    let keys = Keys::make();
    for play in 0..plays {
        let seed = only.unwrap_or(play);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
            runtime.expect("one thread").block_on(play::play(seed, &keys));
        }));
        if let Err(panic) = outcome {
            println!("play it again with KNARR_SIMULATION_SEED={seed}");
            resume_unwind(panic);
        }
    }
}
