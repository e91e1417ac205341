//! What this server and others serve, as one ordered list.

use std::sync::Arc;

use knarr_api::resources;

use crate::aggregation::{Remote, Remotes};
use crate::catalogue::{Catalogue, Version};

/// What groups of custom resources have.
const CUSTOM_GROUP_PRIORITY: i32 = 1000;
const CUSTOM_VERSION_PRIORITY: i32 = 100;

/// A group with its versions, the most preferred first.
pub struct Group<'a> {
    pub name: &'a str,
    pub versions: Vec<Served<'a>>,
    priority: i32,
}

/// One version of a group.
pub struct Served<'a> {
    pub name: &'a str,
    pub by: By<'a>,
    priority: i32,
}

pub enum By<'a> {
    Local(&'a Version),
    Remote(&'a Arc<Remote>),
}

/// All groups in discovery's order.
pub fn all<'a>(catalogue: &'a Catalogue, remotes: &'a Remotes) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = catalogue.groups.iter().map(local).collect();
    for remote in remotes.values() {
        let at = groups.iter().position(|group| group.name == remote.group).unwrap_or_else(|| {
            let lower = |group: &Group<'_>| group.priority < remote.group_priority && !group.name.is_empty();
            let at = groups.iter().position(lower).unwrap_or(groups.len());
            let group = Group { name: &remote.group, versions: Vec::new(), priority: remote.group_priority };
            groups.insert(at, group);
            at
        });
        let versions = &mut groups[at].versions;
        versions.retain(|version| version.name != remote.version);
        let lower = |version: &Served<'_>| version.priority < remote.version_priority;
        let at = versions.iter().position(lower).unwrap_or(versions.len());
        let (name, by) = (remote.version.as_str(), By::Remote(remote));
        versions.insert(at, Served { name, by, priority: remote.version_priority });
    }
    groups
}

fn local(group: &crate::catalogue::Group) -> Group<'_> {
    let known = resources::group(&group.name);
    let versions = group.versions.iter().map(|version| Served {
        name: &version.name,
        by: By::Local(version),
        priority: known.map_or(CUSTOM_VERSION_PRIORITY, |known| known.version_priority(&version.name)),
    });
    Group {
        name: &group.name,
        versions: versions.collect(),
        priority: known.map_or(CUSTOM_GROUP_PRIORITY, |known| known.priority()),
    }
}
