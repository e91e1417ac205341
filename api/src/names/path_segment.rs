//! Names that only have to fit into a path.

/// A name that is one segment of a path. Neither emptiness nor length is looked at.
pub fn path_segment_name(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    path_segment_prefix(name)
}

/// The beginning of a segment of a path.
pub fn path_segment_prefix(name: &str) -> Vec<String> {
    let found = ["/", "%"].into_iter().filter(|illegal| name.contains(illegal));
    found.map(|illegal| format!("may not contain '{illegal}'")).collect()
}

/// An object's name that is a path segment; with `prefix`, a generateName that will get a suffix.
pub fn name_is_path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix { path_segment_prefix(name) } else { path_segment_name(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_does_not_walk() {
        assert_eq!(path_segment_name(".."), ["may not be '..'"]);
        assert_eq!(path_segment_name("a/%"), ["may not contain '/'", "may not contain '%'"]);
        assert!(path_segment_prefix("..").is_empty() && path_segment_name("system:a").is_empty());
    }
}
