//! From the command to a node that is Ready, on an empty data directory.

use std::time::Instant;

use knarr_e2e::Cluster;

use crate::figures::{Sample, line};

const STARTS: usize = 5;

pub fn measure() -> anyhow::Result<()> {
    let mut first = Vec::new();
    let mut again = Vec::new();
    for _ in 0..STARTS {
        let cluster = Cluster::prepare("bench-start");
        let started = Instant::now();
        cluster.up().ok();
        first.push(started.elapsed());
        cluster.knarr(&["down"]).ok();
        let started = Instant::now();
        cluster.up().ok();
        again.push(started.elapsed());
    }
    line("knarr up to Ready, new cluster", &Sample::new(first).shown(), "1 s");
    line("knarr up to Ready, after knarr down", &Sample::new(again).shown(), "1 s");
    Ok(())
}
