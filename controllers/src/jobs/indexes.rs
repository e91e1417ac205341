//! Sets of completion indexes in the form `1,3-5,7`. Pure.

use std::{collections::BTreeSet, fmt};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<u32>);

impl Indexes {
    /// Reads the written form; parts that are not valid or reach `limit` are left out.
    pub(super) fn parse(text: &str, limit: u32) -> Self {
        let mut indexes = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
            indexes.extend(first..last.saturating_add(1).min(limit));
        }
        Self(indexes)
    }

    pub(super) fn contains(&self, index: u32) -> bool {
        self.0.contains(&index)
    }

    pub(super) fn insert(&mut self, index: u32) {
        self.0.insert(index);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of `other` are in here too.
    pub(super) fn overlap(&self, other: &Self) -> usize {
        self.0.intersection(&other.0).count()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                // Two neighbours are written apart, as upstream does.
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_written_form_is_upstreams() {
        assert_eq!(Indexes::parse("7,1,3-5,x,9-99", 11).to_string(), "1,3-5,7,9,10");
        assert_eq!(Indexes::parse("", 5), Indexes::default());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(indexes in prop::collection::btree_set(0..500u32, 0..100)) {
            let indexes = Indexes(indexes);
            prop_assert_eq!(Indexes::parse(&indexes.to_string(), 500), indexes);
        }
    }
}
