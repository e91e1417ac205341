use std::time::Duration;

use serde_json::json;

use super::*;

fn pod(uid: &str, priority: i32) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {"priority": priority},
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn queue() -> (Queue, Instant) {
    (Queue::new(Config::default()), Instant::now())
}

fn add(queue: &mut Queue, uid: &str, priority: i32, gated: bool, now: Instant) {
    queue.add_or_update(pod(uid, priority), gated, now, |_, _| true);
}

fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
    queue.pop(now).map(|pod| pod.metadata.uid.to_string())
}

#[tokio::test(start_paused = true)]
async fn higher_priority_goes_first_and_equals_in_order_of_arrival() {
    let (mut queue, now) = queue();
    for (uid, priority) in [("a", 0), ("b", 0), ("c", 5)] {
        add(&mut queue, uid, priority, false, now);
    }
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
    assert_eq!(order, ["c", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn only_an_event_that_can_help_brings_a_pod_back() {
    let (mut queue, now) = queue();
    add(&mut queue, "a", 0, false, now);
    queue.pop(now).expect("a pod");
    queue.unschedulable("a", vec!["NodeName"], Kinds::NODE_ADD.or(Kinds::NODE_LABEL), false, now);
    queue.happened(Kinds::NODE_TAINT, now, |_, _| true);
    queue.happened(Kinds::NODE_ADD, now, |_, rejectors| rejectors != ["NodeName"]);
    assert_eq!(queue.next_release(), None);
    assert_eq!(popped(&mut queue, now), None);
    queue.happened(Kinds::NODE_ADD.or(Kinds::NODE_LABEL), now, |_, _| true);
    assert_eq!(queue.next_release(), Some(now + Duration::from_secs(1)));
    // Nobody else is there: it need not wait for its pause to end.
    assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn one_that_backs_off_lets_active_ones_go_first() {
    let (mut queue, now) = queue();
    add(&mut queue, "a", 9, false, now);
    queue.pop(now).expect("a pod");
    queue.unschedulable("a", vec![], Kinds::NODE_ADD, false, now);
    queue.happened(Kinds::NODE_ADD, now, |_, _| true);
    add(&mut queue, "b", 0, false, now);
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
    assert_eq!(order, ["b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn pauses_after_errors_double_up_to_the_longest_and_are_kept() {
    let (mut queue, mut now) = queue();
    add(&mut queue, "a", 0, false, now);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        queue.pop(now).expect("a pod");
        queue.failed("a", now);
        assert_eq!(popped(&mut queue, now), None);
        let release = queue.next_release().expect("backing off");
        pauses.push((release - now).as_secs());
        now = release;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn gates_hold_a_pod_until_the_last_is_gone() {
    let (mut queue, now) = queue();
    add(&mut queue, "a", 0, true, now);
    queue.happened(Kinds::NODE_ADD, now, |_, _| true);
    assert_eq!(popped(&mut queue, now), None);
    add(&mut queue, "a", 0, false, now);
    assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn removed_pods_are_never_popped_and_forgotten_ones_come_back_in_time() {
    let (mut queue, now) = queue();
    add(&mut queue, "a", 0, false, now);
    add(&mut queue, "b", 0, false, now);
    queue.remove("a");
    assert_eq!(popped(&mut queue, now).as_deref(), Some("b"));
    queue.unschedulable("b", vec![], Kinds::default(), false, now);
    queue.flush_stale(now + Duration::from_secs(299));
    assert_eq!(popped(&mut queue, now), None);
    let late = now + Duration::from_secs(300);
    queue.flush_stale(late);
    assert_eq!(popped(&mut queue, late).as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_room_is_made_for_waits_until_it_is_made() {
    let (mut queue, now) = queue();
    for worked in [true, false] {
        add(&mut queue, "a", 0, false, now);
        queue.pop(now).expect("a pod");
        queue.unschedulable("a", vec![], Kinds::POD_DELETE, true, now);
        if worked {
            queue.happened(Kinds::POD_DELETE, now, |_, _| true);
        }
        assert_eq!(popped(&mut queue, now), None);
        queue.preempted("a", worked, now);
        assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
        queue.remove("a");
    }
}

#[tokio::test(start_paused = true)]
async fn every_pod_is_counted_where_it_waits_and_its_turns_are() {
    let (mut queue, now) = queue();
    let sizes =
        |active, backing_off, unschedulable, gated| Sizes { active, backing_off, unschedulable, gated };
    add(&mut queue, "a", 0, false, now);
    add(&mut queue, "held", 0, true, now);
    assert_eq!((queue.sizes(), queue.attempt("a")), (sizes(1, 0, 0, 1), None));
    queue.pop(now).expect("a pod");
    let first = Attempt { number: 1, began: now, first: now };
    assert_eq!((queue.sizes(), queue.attempt("a")), (sizes(0, 0, 0, 1), Some(first)));
    queue.unschedulable("a", vec!["NodeName"], Kinds::NODE_ADD, false, now);
    assert_eq!(queue.sizes(), sizes(0, 0, 1, 1));
    queue.happened(Kinds::NODE_ADD, now, |_, _| true);
    add(&mut queue, "held", 0, false, now);
    assert_eq!(queue.sizes(), sizes(1, 1, 0, 0));
    let later = now + Duration::from_secs(2);
    assert_eq!(popped(&mut queue, later).as_deref(), Some("a"));
    assert_eq!(queue.attempt("a"), Some(Attempt { number: 2, began: later, first: now }));
    queue.failed("a", later);
    assert_eq!(queue.sizes(), sizes(1, 1, 0, 0));
    queue.remove("a");
    queue.remove("held");
    assert_eq!(queue.sizes(), Sizes::default());
}
