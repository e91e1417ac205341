//! Image references as users write them.

/// Adds `:latest` where there is neither tag nor digest; refuses what cannot be a reference.
pub fn with_default_tag(image: &str) -> Result<String, &'static str> {
    const INVALID: &str = "invalid reference format";
    if image.is_empty() || image.len() > 512 || image.starts_with(['/', ':', '@', '-', '.']) {
        return Err(INVALID);
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|digest| !digest.contains(':')) {
        return Err(INVALID);
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    let (path, tag) = match last.split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let (registry, repository) = split_registry(path);
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/');
    if repository.is_empty() || !repository.chars().all(good) || repository.split('/').any(str::is_empty) {
        let upper = repository.chars().any(|c| c.is_ascii_uppercase());
        return Err(if upper {
            "invalid reference format: repository name must be lowercase"
        } else {
            INVALID
        });
    }
    if registry.is_some_and(|r| r.chars().any(|c| c.is_whitespace())) {
        return Err(INVALID);
    }
    let good_tag = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    match (tag, digest) {
        (Some(tag), _) if !good_tag(tag) => Err(INVALID),
        (None, None) => Ok(format!("{image}:latest")),
        _ => Ok(image.to_owned()),
    }
}

/// Registry (where the first part is one) and repository.
pub fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, name),
    }
}

/// The policy where the pod has none: always for `latest`.
pub fn default_policy(image: &str) -> &'static str {
    let latest = with_default_tag(image).is_ok_and(|image| image.ends_with(":latest"));
    if latest { "Always" } else { "IfNotPresent" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_get_a_tag_or_are_refused() {
        for (image, expected) in [
            ("nginx", Ok("nginx:latest")),
            ("nginx:1.27", Ok("nginx:1.27")),
            ("localhost:5000/a/b", Ok("localhost:5000/a/b:latest")),
            ("a@sha256:00", Ok("a@sha256:00")),
            ("UPPER", Err("invalid reference format: repository name must be lowercase")),
            ("", Err("invalid reference format")),
            ("a b", Err("invalid reference format")),
            ("a:", Err("invalid reference format")),
            ("a//b", Err("invalid reference format")),
            ("-invalid", Err("invalid reference format")),
        ] {
            assert_eq!(with_default_tag(image).as_deref().map_err(|e| *e), expected, "{image}");
        }
    }
}
