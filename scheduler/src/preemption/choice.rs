//! Which of several nodes its pods should leave, by upstream's criteria in upstream's order.

use jiff::Timestamp;

use super::Victims;

type Criterion = fn(&Victims) -> i128;

/// The first that tells nodes apart decides; more is better.
const CRITERIA: [Criterion; 5] = [
    |victims| -(victims.violations as i128),
    |victims| -i128::from(victims.pods.first().map_or(i32::MIN, |pod| pod.priority)),
    // All made positive: few pods of a low priority are not worse than many.
    |victims| -victims.pods.iter().map(|pod| i128::from(pod.priority) + (1 << 31)).sum::<i128>(),
    |victims| -(victims.pods.len() as i128),
    earliest_start,
];

/// When the first of the most important victims was started.
fn earliest_start(victims: &Victims) -> i128 {
    let highest = victims.pods.first().map(|pod| pod.priority);
    let important = victims.pods.iter().filter(|pod| Some(pod.priority) == highest);
    important.map(|pod| pod.started.unwrap_or(Timestamp::MAX).as_nanosecond()).min().unwrap_or(i128::MIN)
}

pub fn best(mut candidates: Vec<Victims>) -> Option<Victims> {
    for criterion in CRITERIA {
        if candidates.len() < 2 {
            break;
        }
        let most = candidates.iter().map(criterion).max();
        candidates.retain(|victims| Some(criterion(victims)) == most);
    }
    candidates.into_iter().next()
}
