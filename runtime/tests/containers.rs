//! Real containers, as root.

mod support;

use support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_its_output_is_logged() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let (status, log) = world
        .finish(&sandbox, "echo out; echo err >&2; hostname; echo $FROM_IMAGE $HOSTNAME; exit 3", |_| {})
        .await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"), "{status:?}");
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out", "pod-host", "yes pod-host"]);
    world.end().await;
}
