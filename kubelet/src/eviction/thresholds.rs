//! From which point on the node is short of something.

use std::collections::BTreeMap;
use std::time::Duration;

use super::observe::{Observation, Signal};
use crate::config::Config;
use crate::resources::amount;

/// Absolute, or in thousandths of a percent of the capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    Units(i64),
    MilliPercent(i64),
}

impl Amount {
    /// `100Mi` or `12.5%`; `None` for what is neither.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.parse().ok().filter(|p| (0.0..=100.0).contains(p))?;
                Some(Self::MilliPercent((percent * 1000.0).round() as i64))
            }
            None => amount::units(text).filter(|units| *units >= 0).map(Self::Units),
        }
    }

    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Units(units) => units,
            Self::MilliPercent(share) => {
                i64::try_from(i128::from(capacity) * i128::from(share) / 100_000).unwrap_or(i64::MAX)
            }
        }
    }

    fn is_zero(self) -> bool {
        matches!(self, Self::Units(0) | Self::MilliPercent(0))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Threshold {
    pub signal: Signal,
    pub amount: Amount,
    /// Zero for hard thresholds.
    pub grace: Duration,
    /// Once met, it stays so until this much more is free.
    pub reclaim: Amount,
}

impl Threshold {
    /// Whether what is left is less than wanted; `known`: it was met before.
    pub fn is_met(&self, seen: Observation, known: bool) -> bool {
        let mut wanted = self.amount.of(seen.capacity);
        if known {
            wanted = wanted.saturating_add(self.reclaim.of(seen.capacity));
        }
        wanted > seen.available
    }
}

/// Hard and soft thresholds. What does not parse or says nothing (zero) is none.
pub fn configured(config: &Config) -> Vec<Threshold> {
    let graces = &config.eviction_soft_grace_period;
    let soft =
        read(&config.eviction_soft, &config.eviction_minimum_reclaim, |name| graces.get(name).copied());
    let hard = read(&config.eviction_hard, &config.eviction_minimum_reclaim, |_| Some(Duration::ZERO));
    hard.chain(soft).collect()
}

fn read<'a>(
    list: &'a BTreeMap<String, String>,
    reclaims: &'a BTreeMap<String, String>,
    grace: impl Fn(&str) -> Option<Duration> + 'a,
) -> impl Iterator<Item = Threshold> + 'a {
    list.iter().filter_map(move |(name, text)| {
        let (Some(signal), Some(amount)) = (Signal::parse(name), Amount::parse(text)) else {
            tracing::warn!(signal = name, value = text, "eviction threshold is not understood");
            return None;
        };
        let reclaim = reclaims.get(name).and_then(|text| Amount::parse(text)).unwrap_or(Amount::Units(0));
        let grace = grace(name)?;
        (!amount.is_zero()).then_some(Threshold { signal, amount, grace, reclaim })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_met_below_its_share_and_until_more_is_free() {
        let threshold = Threshold {
            signal: Signal::NodeFsAvailable,
            amount: Amount::parse("12.5%").expect("a share"),
            grace: Duration::ZERO,
            reclaim: Amount::parse("5").expect("an amount"),
        };
        let seen = |available| Observation { available, capacity: 1000 };
        assert!(threshold.is_met(seen(124), false));
        assert!(!threshold.is_met(seen(125), false));
        assert!(threshold.is_met(seen(129), true));
        assert!(!threshold.is_met(seen(130), true));
    }

    #[test]
    fn zero_switches_a_threshold_off_and_nonsense_is_none() {
        let mut config = Config::new("n", "/x");
        config.eviction_hard =
            [("nodefs.available", "0%"), ("memory.available", "1Gi"), ("x", "1"), ("pid.available", "-1")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        config.eviction_soft = [("memory.available".to_owned(), "2Gi".to_owned())].into();
        let found = configured(&config);
        assert_eq!(found.len(), 1, "soft ones need a grace period");
        assert_eq!(found[0].amount, Amount::Units(1 << 30));
    }
}
