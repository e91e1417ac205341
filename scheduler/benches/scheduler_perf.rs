//! Upstream's scheduler_perf workloads, made again: same shapes, through the real API server, in one process.
//!
//! `cargo bench -p knarr-scheduler` runs them all at their full size; `-- NAME` only those whose name has NAME in it,
//! and `-- --percent N` makes nodes and pods fewer. Printed are pods per second, and how many times that is what
//! upstream publishes as its threshold.

#[path = "scheduler_perf/cluster.rs"]
mod cluster;
#[path = "scheduler_perf/pods.rs"]
mod pods;
#[path = "scheduler_perf/workloads.rs"]
mod workloads;

use cluster::Cluster;
use workloads::{Workload, workloads};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know whether it starts.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let percent = arguments.iter().position(|argument| argument == "--percent");
    let percent = percent.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(100);
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--") && argument.parse::<usize>().is_err())
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    println!("{:<28} {:>8} {:>10} {:>10} {:>7}", "workload", "pods", "pods/s", "threshold", "ratio");
    for workload in workloads() {
        if wanted.is_empty() || wanted.iter().any(|name| workload.name.contains(name.as_str())) {
            runtime.block_on(run(&workload, percent));
        }
    }
}

async fn run(workload: &Workload, percent: usize) {
    let scale = |count: usize| (count * percent / 100).max(1);
    let mut cluster = Cluster::start().await;
    cluster.make_nodes(workload.nodes.iter().map(|(count, node)| (scale(*count), *node))).await;
    let mut settled = 0;
    for (count, pod) in &workload.before {
        cluster.make_pods("before", scale(*count), *pod).await;
        if pods::can_be_placed(*pod) {
            settled += scale(*count);
        }
    }
    cluster.wait_for(settled).await;
    let (count, pod) = (scale(workload.measured.0), workload.measured.1);
    let meanwhile = cluster.meanwhile(workload.meanwhile, settled);
    let began = tokio::time::Instant::now();
    cluster.make_pods("measured", count, pod).await;
    cluster.wait_for_measured(count).await;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    meanwhile.cancel();
    let ratio = rate / workload.threshold;
    println!("{:<28} {count:>8} {rate:>10.0} {:>10.0} {ratio:>7.1}", workload.name, workload.threshold);
    cluster.stop().await;
}
