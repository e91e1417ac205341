//! What can happen in the cluster that may make room for a pod that found none.

/// A set of kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events(u16);

impl Events {
    pub const NODE_ADD: Self = Self(1);
    pub const NODE_ALLOCATABLE: Self = Self(1 << 1);
    pub const NODE_LABEL: Self = Self(1 << 2);
    pub const NODE_TAINT: Self = Self(1 << 3);
    /// A pod that had a node is gone or finished, or asks for less.
    pub const POD_DELETE: Self = Self(1 << 4);
    /// The waiting pod itself changed.
    pub const POD_UPDATE: Self = Self(1 << 5);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
