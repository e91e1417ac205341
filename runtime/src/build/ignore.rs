//! `.dockerignore`: which files of the context a build does not see.

use super::glob;

/// Longest file, in bytes.
pub const MAX_SIZE: usize = 1 << 20;
const MAX_PATTERNS: usize = 10_000;

/// Patterns in the order of the file; the last that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    text: String,
    keep: bool,
}

impl Ignore {
    /// Reads a file; what is no pattern (too long a file, too many of them) is refused with the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SIZE {
            return Err(format!(".dockerignore is longer than {MAX_SIZE} bytes"));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let ignore = Self::of(lines.map(str::trim).filter(|line| !line.is_empty()))?;
        if ignore.patterns.len() > MAX_PATTERNS {
            return Err(format!(".dockerignore has more than {MAX_PATTERNS} patterns"));
        }
        Ok(ignore)
    }

    /// Of patterns given one by one, as `--exclude` does.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut found = Vec::new();
        for line in patterns {
            let (keep, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                return Err("illegal exclusion pattern: \"!\"".to_owned());
            }
            // `.` and `/` say nothing and so exclude nothing.
            let text = clean(line);
            if !text.is_empty() {
                found.push(Pattern { text, keep });
            }
        }
        Ok(Self { patterns: found })
    }

    /// Whether the build does not see this path (relative, cleaned).
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for pattern in &self.patterns {
            if excluded == pattern.keep && matches_or_parent(&pattern.text, path) {
                excluded = !pattern.keep;
            }
        }
        excluded
    }

    /// Whether something below an excluded directory may be seen all the same.
    pub fn may_keep_below(&self, _directory: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.keep)
    }
}

/// The path itself, or a directory that it is in.
fn matches_or_parent(pattern: &str, path: &str) -> bool {
    let ends = path.match_indices('/').map(|(index, _)| index).chain([path.len()]);
    ends.into_iter().any(|end| glob::matches(pattern, &path[..end]))
}

/// As a path is cleaned: no dots, no empty elements, nothing above the context.
pub fn clean(path: &str) -> String {
    let mut elements: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." => {
                elements.pop();
            }
            element => elements.push(element),
        }
    }
    elements.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_pattern_decides() {
        let ignore =
            Ignore::parse("# no comment\n\n/target\n*.md\n!README.md\nnode_modules/\n**/*.tmp\ndocs/**\n")
                .expect("patterns");
        for (path, excluded) in [
            ("target", true),
            ("target/debug/x", true),
            ("src/target", false),
            ("a.md", true),
            ("README.md", false),
            ("src/a.md", false),
            ("node_modules/x/y", true),
            ("a/b/c.tmp", true),
            ("docs/x", true),
            ("main.rs", false),
        ] {
            assert_eq!(ignore.excludes(path), excluded, "{path}");
        }
        let all = Ignore::parse("*\n!src\n").expect("patterns");
        assert!(all.excludes("Makefile") && !all.excludes("src/main.rs") && !all.excludes("src"));
        assert!(Ignore::parse("!").is_err());
    }
}
