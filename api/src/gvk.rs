//! The coordinates of kinds and resources: group, version and a kind or a plural resource name.

use std::borrow::Cow;
use std::fmt;

/// A name that is usually a static of the embedded tables, and owned for custom resources.
pub type Name = Cow<'static, str>;

/// A group and a version, as in `apiVersion`. The core group is the empty string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersion {
    pub group: Name,
    pub version: Name,
}

impl GroupVersion {
    pub fn new(group: impl Into<Name>, version: impl Into<Name>) -> Self {
        Self { group: group.into(), version: version.into() }
    }

    /// Reads an `apiVersion`: `v1` or `apps/v1`. None when it has more than one slash or is empty.
    pub fn parse(api_version: &str) -> Option<Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if version.is_empty() || version.contains('/') {
            return None;
        }
        Some(Self::new(group.to_owned(), version.to_owned()))
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.version)
        } else {
            write!(f, "{}/{}", self.group, self.version)
        }
    }
}

/// The coordinates of a kind. Displays as upstream's logs and errors do: `apps/v1, Kind=Deployment`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionKind {
    pub group: Name,
    pub version: Name,
    pub kind: Name,
}

impl GroupVersionKind {
    pub fn new(group: impl Into<Name>, version: impl Into<Name>, kind: impl Into<Name>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    /// The value of an object's `apiVersion` field.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// The coordinates of a resource: its plural name as it stands in URLs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionResource {
    pub group: Name,
    pub version: Name,
    pub resource: Name,
}

impl GroupVersionResource {
    pub fn new(group: impl Into<Name>, version: impl Into<Name>, resource: impl Into<Name>) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_version_round_trips() {
        for text in ["v1", "apps/v1", "example.com/v1alpha1"] {
            assert_eq!(GroupVersion::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(GroupVersion::parse(""), None);
        assert_eq!(GroupVersion::parse("a/b/c"), None);
    }
}
