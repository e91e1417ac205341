//! Names of images, as far as defaults depend on them.

/// The tag that an image's name means: `latest` where it has neither tag nor digest, none where it has a digest
/// only or is no name.
pub fn tag(image: &str) -> Option<&str> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[last..].rfind(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    };
    if !is_repository(repository) || tag.is_some_and(str::is_empty) {
        return None;
    }
    match (tag, digest) {
        (Some(tag), _) => Some(tag),
        (None, None) => Some("latest"),
        (None, Some(_)) => None,
    }
}

/// A host in front may hold upper case and a port; the path may not.
fn is_repository(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => name,
    };
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    !path.is_empty() && path.split('/').all(|part| !part.is_empty() && part.chars().all(known))
}

/// The pull policy of an image where none is given.
pub fn pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_image_is_always_pulled() {
        for image in ["nginx", "nginx:latest", "registry:5000/a/b", "docker.io/a/b:latest", "Host.example/a"]
        {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["nginx:1", "registry:5000/a/b:v1", "a@sha256:00", "Nginx", "", "a//b", "a:"] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
