//! Patterns of names: `*`, `?`, `[a-z]`, `\x` within one element of a path, and `**` for any number of elements.

/// Longest pattern or path, in bytes: matching takes their product.
const MAX_LENGTH: usize = 4096;

/// Whether an element of a path has a meaning beside itself.
pub fn is_pattern(element: &str) -> bool {
    element.contains(['*', '?', '[', '\\'])
}

/// Whether a whole path matches; both without leading slash.
pub fn matches(pattern: &str, path: &str) -> bool {
    if pattern.len() > MAX_LENGTH || path.len() > MAX_LENGTH {
        return false;
    }
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    // reached[i]: the pattern so far matches the first i elements.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for element in pattern {
        let mut next = vec![false; path.len() + 1];
        let any = element == "**";
        let mut before = false;
        for index in 0..=path.len() {
            if any {
                before |= reached[index];
                next[index] = before;
            } else if index > 0 && reached[index - 1] {
                next[index] = matches_element(element, path[index - 1]);
            }
        }
        reached = next;
    }
    reached[path.len()]
}

/// Whether one element matches; `**` inside one is the same as `*`.
pub fn matches_element(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let mut next = vec![false; name.len() + 1];
        if c == '*' {
            let mut before = false;
            for index in 0..=name.len() {
                before |= reached[index];
                next[index] = before;
            }
        } else {
            let Some(one) = One::read(c, &mut chars) else { return false };
            for index in 0..name.len() {
                next[index + 1] = reached[index] && one.is(name[index]);
            }
        }
        reached = next;
    }
    reached[name.len()]
}

/// What one character may be.
enum One {
    Any,
    This(char),
    Ranges { negated: bool, ranges: Vec<(char, char)> },
}

impl One {
    fn read(first: char, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Self> {
        match first {
            '?' => Some(One::Any),
            '\\' => rest.next().map(One::This),
            '[' => {
                let negated = rest.next_if(|c| matches!(c, '^' | '!')).is_some();
                let mut ranges = Vec::new();
                loop {
                    let low = match rest.next()? {
                        ']' if !ranges.is_empty() => return Some(One::Ranges { negated, ranges }),
                        '\\' => rest.next()?,
                        c => c,
                    };
                    let high = match rest.next_if_eq(&'-') {
                        Some(_) => rest.next()?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
            }
            c => Some(One::This(c)),
        }
    }

    fn is(&self, c: char) -> bool {
        match self {
            One::Any => true,
            One::This(this) => *this == c,
            One::Ranges { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_paths_match_as_in_go() {
        for (pattern, path, expected) in [
            ("a", "a", true),
            ("*.go", "main.go", true),
            ("*.go", "cmd/main.go", false),
            ("*/*.go", "cmd/main.go", true),
            ("**/*.go", "main.go", true),
            ("**/*.go", "a/b/main.go", true),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("[", "[", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        let almost = "a".repeat(3000) + "b";
        assert!(!matches(&"*a".repeat(2000), &almost), "hostile patterns end soon");
    }
}
