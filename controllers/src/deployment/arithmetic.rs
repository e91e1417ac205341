//! How many replicas each ReplicaSet gets. Pure.

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::error::Error;

/// The replicas a ReplicaSet is asked for.
pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The replicas a ReplicaSet has.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

pub(super) fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// The replicas a Deployment is asked for.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// How far a rollout may go from the wanted number of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) replicas: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Fence {
    /// Surge is rounded up and unavailability down; both may not be zero, or nothing could move.
    pub(super) fn resolve(
        replicas: i32,
        surge: Option<&IntOrString>,
        unavailable: Option<&IntOrString>,
    ) -> Result<Self, Error> {
        let surge = surge.map_or(Ok(0), |value| scaled(value, replicas, true))?;
        let mut unavailable = unavailable.map_or(Ok(0), |value| scaled(value, replicas, false))?;
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Ok(Self { replicas, surge, unavailable: unavailable.min(replicas) })
    }

    /// Of a Deployment; one that recreates has no leeway.
    pub(super) fn of(deployment: &Deployment) -> Result<Self, Error> {
        let replicas = replicas(deployment);
        let strategy = deployment.spec.strategy.as_ref();
        match strategy {
            Some(strategy) if strategy.type_.as_deref() != Some("Recreate") => {
                let rolling = strategy.rolling_update.as_ref();
                Self::resolve(
                    replicas,
                    rolling.and_then(|rolling| rolling.max_surge.as_ref()),
                    rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
                )
            }
            _ => Ok(Self { replicas, surge: 0, unavailable: 0 }),
        }
    }

    pub(super) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    pub(super) fn least_available(&self) -> i32 {
        self.replicas - self.unavailable
    }

    /// What the new set may grow to while `total` replicas are asked for in all.
    pub(super) fn new_set(&self, new: i32, total: i32) -> i32 {
        if total >= self.most() {
            return new;
        }
        new + (self.most() - total).min(self.replicas - new)
    }
}

/// A number or a percentage of `total`.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Result<i32, Error> {
    let text = match value {
        IntOrString::Int(number) => return Ok(*number),
        IntOrString::String(text) => text,
    };
    let percent = text.strip_suffix('%').and_then(|percent| percent.parse::<i64>().ok());
    let percent =
        percent.ok_or_else(|| Error::Unusable(format!("invalid value for IntOrString: {text:?}")))?;
    let hundredths = percent.saturating_mul(i64::from(total));
    let whole =
        if round_up { hundredths.saturating_add(99).div_euclid(100) } else { hundredths.div_euclid(100) };
    Ok(i32::try_from(whole).unwrap_or(i32::MAX))
}

/// One old set during a rolling update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) wanted: i32,
    pub(super) available: i32,
}

/// The new sizes of the old sets (oldest first) when `total` replicas are asked for in all and the new set has
/// `new`: first whatever is not available anyway, then as many available ones as can be spared.
pub(super) fn shrink_old(fence: &Fence, total: i32, new: Size, old: &[Size]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|size| size.wanted).collect();
    let mut spare = total - fence.least_available() - (new.wanted - new.available);
    if spare <= 0 {
        return sizes;
    }
    for (size, old) in sizes.iter_mut().zip(old) {
        let sick = (old.wanted - old.available).clamp(0, spare.max(0));
        *size -= sick;
        spare -= sick;
    }
    let available = new.available + old.iter().map(|size| size.available).sum::<i32>();
    let mut spare = available - fence.least_available();
    for size in &mut sizes {
        let healthy = (*size).clamp(0, spare.max(0));
        *size -= healthy;
        spare -= healthy;
    }
    sizes
}

/// One set while a Deployment is resized in the middle of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) wanted: i32,
    /// The most replicas the Deployment could have when the set was last sized.
    pub(super) most_before: Option<i32>,
}

/// The sizes of all active sets, largest first, for a Deployment that may now have `allowed` replicas in all:
/// each keeps its proportion, and the largest takes what rounding leaves.
pub(super) fn proportions(allowed: i32, status_replicas: i32, shares: &[Share]) -> Vec<i32> {
    let total: i32 = shares.iter().map(|share| share.wanted).sum();
    let to_add = allowed - total;
    let mut added = 0;
    let mut sizes: Vec<i32> = shares
        .iter()
        .map(|share| {
            let part = proportion(share, allowed, status_replicas, to_add, added);
            added += part;
            share.wanted + part
        })
        .collect();
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + to_add - added).max(0);
    }
    sizes
}

fn proportion(share: &Share, allowed: i32, status_replicas: i32, to_add: i32, added: i32) -> i32 {
    if share.wanted == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = if allowed == 0 {
        -share.wanted
    } else {
        match share.most_before.filter(|&most| most != 0).unwrap_or(status_replicas) {
            0 => 0,
            before => {
                let size = f64::from(share.wanted) * f64::from(allowed) / f64::from(before);
                // Saturates; no count comes near.
                size.round() as i32 - share.wanted
            }
        }
    };
    let left = to_add - added;
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn percent(text: &str) -> IntOrString {
        IntOrString::String(text.to_owned())
    }

    #[test]
    fn fences_round_as_upstream() {
        let quarter = percent("25%");
        for (replicas, surge, unavailable) in [(1, 1, 0), (3, 1, 0), (4, 1, 1), (10, 3, 2), (0, 0, 0)] {
            let fence = Fence::resolve(replicas, Some(&quarter), Some(&quarter)).unwrap();
            assert_eq!(fence, Fence { replicas, surge, unavailable }, "{replicas}");
        }
        let none = IntOrString::Int(0);
        assert_eq!(Fence::resolve(5, Some(&none), Some(&none)).unwrap().unavailable, 1);
        assert!(Fence::resolve(5, Some(&percent("x%")), None).is_err());
    }

    #[test]
    fn a_crashing_rollout_stops_and_a_rollback_frees_its_pods() {
        let fence = Fence { replicas: 10, surge: 3, unavailable: 2 };
        let sick = Size { wanted: 5, available: 0 };
        assert_eq!(shrink_old(&fence, 13, sick, &[Size { wanted: 8, available: 7 }]), [8]);
        assert_eq!(shrink_old(&fence, 13, Size { wanted: 8, available: 7 }, &[sick]), [1]);
    }

    #[test]
    fn resizing_keeps_proportions() {
        let shares =
            [Share { wanted: 10, most_before: Some(13) }, Share { wanted: 3, most_before: Some(13) }];
        assert_eq!(proportions(26, 13, &shares), [20, 6]);
        assert_eq!(proportions(0, 13, &shares), [0, 0]);
        assert_eq!(proportions(14, 13, &shares), [11, 3]);
    }

    prop_compose! {
        fn fences()(replicas in 0..60i32, surge in 0..110i32, unavailable in 0..101i32) -> Fence {
            let (surge, unavailable) = (percent(&format!("{surge}%")), percent(&format!("{unavailable}%")));
            Fence::resolve(replicas, Some(&surge), Some(&unavailable)).unwrap()
        }
    }

    proptest! {
        /// Plays rollouts where pods become ready or fail at random, and checks the promise at every step.
        #[test]
        fn never_more_than_surge_never_fewer_than_available(
            fence in fences(),
            healths in prop::collection::vec((0..101i32, any::<bool>()), 1..60),
        ) {
            let mut new = Size { wanted: 0, available: 0 };
            let mut old = [Size { wanted: fence.replicas, available: fence.replicas }];
            for (health, grow_first) in healths {
                let before = new.available + old[0].available;
                for turn in [grow_first, !grow_first] {
                    let total = new.wanted + old[0].wanted;
                    if turn {
                        new.wanted = fence.new_set(new.wanted, total);
                    } else {
                        old[0].wanted = shrink_old(&fence, total, new, &old)[0];
                        old[0].available = old[0].available.min(old[0].wanted);
                    }
                    prop_assert!(new.wanted + old[0].wanted <= fence.most());
                    prop_assert!(new.wanted <= fence.replicas && old[0].wanted >= 0);
                    // What we shrink never takes availability below the fence (pods may fail by themselves).
                    prop_assert!(new.available + old[0].available >= fence.least_available().min(before));
                }
                new.available = new.wanted * health / 100;
            }
        }

        #[test]
        fn a_healthy_rollout_always_finishes(fence in fences()) {
            let mut new = Size { wanted: 0, available: 0 };
            let mut old = Size { wanted: fence.replicas, available: fence.replicas };
            for _ in 0..=2 * fence.replicas {
                new.wanted = fence.new_set(new.wanted, new.wanted + old.wanted);
                old.wanted = shrink_old(&fence, new.wanted + old.wanted, new, &[old])[0];
                old.available = old.wanted;
                new.available = new.wanted;
            }
            prop_assert_eq!((new.wanted, old.wanted), (fence.replicas, 0));
        }

        #[test]
        fn resizing_hands_out_exactly_what_is_allowed(
            allowed in 0..200i32,
            wanted in prop::collection::vec(1..40i32, 1..6),
        ) {
            let mut wanted = wanted;
            wanted.sort_unstable_by(|a, b| b.cmp(a));
            let before = wanted.iter().sum();
            let shares: Vec<_> =
                wanted.iter().map(|&wanted| Share { wanted, most_before: Some(before) }).collect();
            let sizes = proportions(allowed, before, &shares);
            prop_assert_eq!(sizes.iter().sum::<i32>(), allowed);
            prop_assert!(sizes.iter().all(|&size| size >= 0));
        }
    }
}
