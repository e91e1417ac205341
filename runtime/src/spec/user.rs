//! Who the container runs as: numbers from the pod, or names looked up in the image's own files.

use std::path::Path;

use super::{Error, Result, files};
use crate::cri::SecurityContext;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one among them.
    pub groups: Vec<u32>,
    /// Home directory, where the image's files know the user.
    pub home: Option<String>,
}

/// A line of /etc/passwd.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(text: &str) -> impl Iterator<Item = Account<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid, _, home) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

/// Name, gid and members of the lines of /etc/group.
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

/// Resolves the user; `image_user` is the image's `USER`.
pub fn resolve(rootfs: &Path, security: &SecurityContext, image_user: &str) -> Result<User> {
    let read = |path: &str| {
        files::read(rootfs, path)
            .map_err(|source| Error::Io { doing: format!("read /{path} of the image"), source })
    };
    from_files(&read("etc/passwd")?, &read("etc/group")?, security, image_user)
}

fn from_files(passwd: &str, group: &str, security: &SecurityContext, image_user: &str) -> Result<User> {
    let asked = match security.run_as_user {
        Some(uid) => uid.to_string(),
        None if !security.run_as_username.is_empty() => security.run_as_username.clone(),
        None if security.run_as_group.is_some() && image_user.is_empty() => "0".to_owned(),
        None => image_user.to_owned(),
    };
    let (name, group_name) = match asked.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (asked.as_str(), None),
    };
    let account = find_account(passwd, name)?;
    let gid = match (security.run_as_group, group_name) {
        (Some(gid), _) => id(gid)?,
        (None, Some(name)) if !name.is_empty() => find_group(group, name)?,
        _ => account.gid,
    };
    let mut all = vec![gid];
    if let (Some(name), false) = (&account.name, security.supplemental_groups_strict) {
        let member = |members: &str| members.split(',').any(|member| member == name);
        all.extend(groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    for gid in &security.supplemental_groups {
        all.push(id(*gid)?);
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|gid| seen.insert(*gid));
    Ok(User { uid: account.uid, gid, groups: all, home: account.home })
}

/// `user[:group]`, each a name of the image's files or a number. Without a group a number stands for both.
pub fn owner(rootfs: &Path, text: &str) -> Result<(u32, u32)> {
    let read = |path: &str| {
        files::read(rootfs, path)
            .map_err(|source| Error::Io { doing: format!("read /{path} of the image"), source })
    };
    let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
    let account = find_account(&read("etc/passwd")?, name)?;
    let gid = match group.filter(|group| !group.is_empty()) {
        Some(group) => find_group(&read("etc/group")?, group)?,
        None if name.parse::<u32>().is_ok() => account.uid,
        None => account.gid,
    };
    Ok((account.uid, gid))
}

struct Found {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: Option<String>,
}

/// A number needs no line in the file; a name does.
fn find_account(passwd: &str, name: &str) -> Result<Found> {
    let name = if name.is_empty() { "0" } else { name };
    let number: Option<u32> = name.parse().ok();
    let found = accounts(passwd).find(|account| account.name == name || Some(account.uid) == number);
    match (found, number) {
        (Some(account), _) => Ok(Found {
            name: Some(account.name.to_owned()),
            uid: account.uid,
            gid: account.gid,
            home: Some(account.home.to_owned()).filter(|home| !home.is_empty()),
        }),
        (None, Some(uid)) => Ok(Found { name: None, uid, gid: 0, home: None }),
        (None, None) => {
            Err(Error::Invalid(format!("unable to find user {name}: no matching entries in passwd file")))
        }
    }
}

fn find_group(text: &str, name: &str) -> Result<u32> {
    let found = groups(text).find(|(group, _, _)| *group == name).map(|(_, gid, _)| gid);
    found.or_else(|| name.parse().ok()).ok_or_else(|| {
        Error::Invalid(format!("unable to find group {name}: no matching entries in group file"))
    })
}

fn id(value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::Invalid(format!("id {value} is out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:40:web,other\n";

    fn user(security: SecurityContext, image: &str) -> Result<User> {
        from_files(PASSWD, GROUP, &security, image)
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        let web = User { uid: 33, gid: 34, groups: vec![34, 40], home: Some("/srv".to_owned()) };
        assert_eq!(user(SecurityContext::default(), "web").expect("web"), web);
        assert_eq!(user(SecurityContext::default(), "33").expect("web"), web);
        let root = user(SecurityContext::default(), "").expect("root");
        assert_eq!((root.uid, root.home.as_deref()), (0, Some("/root")));
        assert_eq!(user(SecurityContext::default(), "web:logs").expect("a group").gid, 40);
        assert_eq!(user(SecurityContext::default(), "7:8").expect("numbers").groups, [8]);
    }

    #[test]
    fn the_pod_overrides_the_image() {
        let security = SecurityContext {
            run_as_user: Some(1000),
            run_as_group: Some(2000),
            supplemental_groups: vec![3000, 2000],
            ..Default::default()
        };
        let found = user(security, "web").expect("numbers");
        assert_eq!((found.uid, found.gid, found.groups), (1000, 2000, vec![2000, 3000]));
        let strict = SecurityContext { supplemental_groups_strict: true, ..Default::default() };
        assert_eq!(user(strict, "web").expect("web").groups, [34]);
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = user(SecurityContext::default(), "nobody").expect_err("unknown");
        assert_eq!(error.to_string(), "unable to find user nobody: no matching entries in passwd file");
    }
}
