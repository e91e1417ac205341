//! Image references as Docker and containerd read and complete them.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("repository name must not be more than 255 characters")]
    TooLong,
}

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL: &str = "library";

/// A complete reference: `registry/repository:tag`, `registry/repository@digest`, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `registry/repository:tag`, absent where only a digest was given.
    pub fn tagged(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.name())),
            _ => None,
        }
    }

    /// `registry/repository@digest`.
    pub fn with_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }

    /// What to ask the registry for.
    pub fn wanted(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // A bare image id is not a name.
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::Format);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| Error::Format)?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(Error::Format);
        }
        let (registry, repository) = split_registry(name);
        if repository.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(Error::Uppercase(repository));
        }
        if !is_registry(&registry) || !is_repository(&repository) {
            return Err(Error::Format);
        }
        if repository.len() > 255 {
            return Err(Error::TooLong);
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Reference { registry, repository, tag, digest })
    }
}

/// The first element is a registry if it looks like a host; else it is part of a name on Docker Hub.
fn split_registry(name: &str) -> (String, String) {
    let host = |element: &str| {
        element.contains(['.', ':'])
            || element == "localhost"
            || element.chars().any(|c| c.is_ascii_uppercase())
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        return (registry.to_owned(), format!("{OFFICIAL}/{repository}"));
    }
    (registry.to_owned(), repository.to_owned())
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Elements of lower-case letters and digits, parted by one dot, one or two underscores, or dashes.
fn is_repository(repository: &str) -> bool {
    repository.split('/').all(|element| {
        let mut separator = String::new();
        let mut last_was_word = false;
        for c in element.chars() {
            match c {
                'a'..='z' | '0'..='9' => {
                    if !separator.is_empty() && !(last_was_word_before(&separator)) {
                        return false;
                    }
                    separator.clear();
                    last_was_word = true;
                }
                '.' | '_' | '-' if last_was_word => separator.push(c),
                _ => return false,
            }
        }
        last_was_word && separator.is_empty()
    })
}

fn last_was_word_before(separator: &str) -> bool {
    matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| error.to_string(), |reference| reference.to_string())
    }

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        let digest = Digest::of(b"x");
        for (given, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("a/b", "docker.io/a/b:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("knarr.local/hello", "knarr.local/hello:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y"),
            ("registry.k8s.io/e2e-test-images/agnhost:2.53", "registry.k8s.io/e2e-test-images/agnhost:2.53"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
        ] {
            assert_eq!(full(given), expected, "{given}");
        }
        assert_eq!(full(&format!("nginx@{digest}")), format!("docker.io/library/nginx@{digest}"));
        assert_eq!(full(&format!("nginx:1@{digest}")), format!("docker.io/library/nginx:1@{digest}"));
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            ":tag",
            "a:",
            "a b",
            "-a",
            "a..b",
            "a___b",
            "a/",
            "/a",
            "a//b",
            "a@sha256:12",
            "a:b:c",
            "UP.host/-",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert_eq!(
            full("docker.io/Foo"),
            "invalid reference format: repository name (library/Foo) must be lowercase"
        );
    }
}
