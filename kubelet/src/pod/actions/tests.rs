//! What is to be done, case by case.

use k8s_openapi::api::core::v1::{PodSpec, Probe};
use knarr_runtime::cri::{SandboxMetadata, SandboxState, SandboxStatus};

use super::*;
use crate::probes::results::{ProbeKind, ProbeResult};

fn container(name: &str) -> Container {
    Container { name: name.into(), image: Some("image:1".into()), ..Container::default() }
}

fn sidecar(name: &str) -> Container {
    Container { restart_policy: Some("Always".into()), ..container(name) }
}

fn pod(policy: &str, inits: Vec<Container>, regular: Vec<Container>) -> Pod {
    Pod {
        spec: Some(PodSpec {
            restart_policy: Some(policy.into()),
            init_containers: Some(inits),
            containers: regular,
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn sandbox(state: SandboxState) -> SandboxStatus {
    SandboxStatus {
        id: "sandbox".into(),
        metadata: SandboxMetadata { attempt: 1, ..SandboxMetadata::default() },
        state,
        created_at: 1,
        netns: None,
        ips: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
    }
}

fn seen(name: &str, state: ContainerState, exit_code: i32) -> Seen {
    Seen {
        id: format!("id-{name}"),
        name: name.into(),
        sandbox_id: "sandbox".into(),
        state,
        created_at: 1,
        started_at: 1,
        finished_at: 1,
        exit_code,
        reason: String::new(),
        message: String::new(),
        restart_count: 0,
        hash: observed::container_hash(&container(name)),
        image: String::new(),
        image_ref: String::new(),
        image_id: String::new(),
        resources: None,
        user: None,
        stop_signal: String::new(),
    }
}

/// A pod in a ready sandbox with these containers.
fn alive(containers: Vec<Seen>) -> Observed {
    let ips = vec!["10.0.0.1".parse().expect("an address")];
    Observed::new(ips, vec![sandbox(SandboxState::Ready)], containers)
}

fn decide(pod: &Pod, observed: &Observed) -> Actions {
    compute(pod, observed, &ProbeResults::default(), &Amounts::default())
}

use ContainerState::{Created, Exited, Running, Unknown};

#[test]
fn a_new_pod_gets_a_sandbox_and_its_first_containers() {
    let plain = decide(&pod("Always", vec![], vec![container("a"), container("b")]), &Observed::default());
    assert!(plain.create_sandbox && plain.kill_pod);
    assert_eq!((plain.attempt, plain.sandbox_id, plain.to_start), (0, None, vec![0, 1]));
    let with_init = decide(&pod("Always", vec![container("i")], vec![container("a")]), &Observed::default());
    assert_eq!((with_init.init_to_start, with_init.to_start), (vec![0], vec![]));
}

#[test]
fn a_dead_sandbox_is_replaced_unless_the_pod_ran_once_for_good() {
    let dead = |containers| Observed::new(Vec::new(), vec![sandbox(SandboxState::NotReady)], containers);
    let always = decide(&pod("Always", vec![], vec![container("a")]), &dead(vec![seen("a", Exited, 0)]));
    assert_eq!((always.create_sandbox, always.attempt, always.to_start), (true, 2, vec![0]));
    let never = decide(&pod("Never", vec![], vec![container("a")]), &dead(vec![seen("a", Exited, 1)]));
    assert_eq!((never.create_sandbox, never.kill_pod), (false, true));
    let unlucky = decide(&pod("Never", vec![], vec![container("a")]), &dead(vec![]));
    assert!(unlucky.create_sandbox, "no container ever ran: try again");
    let done = decide(&pod("OnFailure", vec![], vec![container("a")]), &dead(vec![seen("a", Exited, 0)]));
    assert!(!done.create_sandbox);
}

#[test]
fn running_containers_are_left_alone() {
    let actions = decide(&pod("Always", vec![], vec![container("a")]), &alive(vec![seen("a", Running, 0)]));
    assert_eq!(actions, Actions { sandbox_id: Some("sandbox".into()), attempt: 1, ..Actions::default() });
}

#[test]
fn ended_containers_restart_as_the_policy_says() {
    for (policy, code, starts, ends_pod) in [
        ("Always", 0, true, false),
        ("Always", 1, true, false),
        ("OnFailure", 0, false, true),
        ("OnFailure", 1, true, false),
        ("Never", 1, false, true),
    ] {
        let actions =
            decide(&pod(policy, vec![], vec![container("a")]), &alive(vec![seen("a", Exited, code)]));
        assert_eq!((!actions.to_start.is_empty(), actions.kill_pod), (starts, ends_pod), "{policy} {code}");
    }
}

#[test]
fn a_changed_image_and_a_failed_probe_end_a_container() {
    let mut changed = container("a");
    changed.image = Some("image:2".into());
    let actions = decide(&pod("Never", vec![], vec![changed]), &alive(vec![seen("a", Running, 0)]));
    assert_eq!(actions.to_kill[0].message, "Container a definition changed, will be restarted");
    assert_eq!(actions.to_start, [0]);

    let probes = ProbeResults::default();
    probes.set("id-a", ProbeKind::Liveness, ProbeResult::Failure);
    let observed = alive(vec![seen("a", Running, 0)]);
    let actions =
        compute(&pod("Always", vec![], vec![container("a")]), &observed, &probes, &Amounts::default());
    assert_eq!(actions.to_kill[0].message, "Container a failed liveness probe, will be restarted");
    let actions =
        compute(&pod("Never", vec![], vec![container("a")]), &observed, &probes, &Amounts::default());
    assert_eq!(actions.to_kill[0].message, "Container a failed liveness probe");
    assert!(actions.to_start.is_empty());
}

#[test]
fn a_container_nobody_knows_the_state_of_is_killed_before_it_is_started_anew() {
    let actions = decide(&pod("Always", vec![], vec![container("a")]), &alive(vec![seen("a", Unknown, 0)]));
    assert_eq!((actions.to_start.len(), actions.to_kill.len()), (1, 1));
}

#[test]
fn init_containers_go_one_by_one() {
    let inits = || vec![container("i"), container("j")];
    let pod_of = |policy: &str| pod(policy, inits(), vec![container("a")]);
    type Case = (&'static str, Vec<Seen>, Vec<usize>, Vec<usize>, bool);
    let table: [Case; 7] = [
        ("Always", vec![], vec![0], vec![], false),
        ("Always", vec![seen("i", Running, 0)], vec![], vec![], false),
        ("Always", vec![seen("i", Exited, 0)], vec![1], vec![], false),
        ("Always", vec![seen("i", Exited, 0), seen("j", Exited, 0)], vec![], vec![0], false),
        ("Always", vec![seen("i", Exited, 1)], vec![0], vec![], false),
        ("Never", vec![seen("i", Exited, 1)], vec![], vec![], true),
        ("Always", vec![seen("i", Created, 0)], vec![0], vec![], false),
    ];
    for (policy, containers, init, regular, kill) in table {
        let names: Vec<_> = containers.iter().map(|c| (c.name.clone(), c.state, c.exit_code)).collect();
        let actions = decide(&pod_of(policy), &alive(containers));
        assert_eq!(
            (actions.init_to_start, actions.to_start, actions.kill_pod),
            (init, regular, kill),
            "{names:?}"
        );
    }
}

#[test]
fn init_containers_that_were_removed_do_not_run_again_in_a_running_pod() {
    let pod = pod("Always", vec![container("i")], vec![container("a")]);
    let actions = decide(&pod, &alive(vec![seen("a", Running, 0)]));
    assert!(actions.init_to_start.is_empty() && actions.to_start.is_empty());
}

#[test]
fn a_sidecar_lets_the_next_start_once_it_has_started() {
    let mut probed = sidecar("s");
    probed.startup_probe = Some(Probe::default());
    let pod = pod("Always", vec![probed, container("i")], vec![container("a")]);
    let observed = alive(vec![seen("s", Running, 0)]);
    let probes = ProbeResults::default();
    assert!(
        compute(&pod, &observed, &probes, &Amounts::default()).init_to_start.is_empty(),
        "its startup probe is undecided"
    );
    probes.set("id-s", ProbeKind::Startup, ProbeResult::Success);
    assert_eq!(compute(&pod, &observed, &probes, &Amounts::default()).init_to_start, [1]);
    probes.set("id-s", ProbeKind::Startup, ProbeResult::Failure);
    let failed = compute(&pod, &observed, &probes, &Amounts::default());
    assert_eq!(failed.to_kill[0].message, "Init container s failed startup probe");
    assert_eq!(failed.init_to_start, [0]);
}

#[test]
fn a_dead_sidecar_restarts_beside_running_containers_but_not_in_a_finished_pod() {
    let of = |policy: &str| pod(policy, vec![sidecar("s")], vec![container("a")]);
    let beside = alive(vec![seen("s", Exited, 1), seen("a", Running, 0)]);
    assert_eq!(decide(&of("Never"), &beside).init_to_start, [0]);
    let finished = alive(vec![seen("s", Running, 0), seen("a", Exited, 0)]);
    let actions = decide(&of("Never"), &finished);
    assert_eq!((actions.kill_pod, actions.init_to_start), (true, vec![]));
}
