//! Cutting arguments into words. Quotes and escapes stay: they are undone when a word is expanded.

/// Words parted by white space outside quotes.
pub fn split(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        // Inside single quotes nothing is special.
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Leading `--name=value` and `--name`, and what follows them.
pub fn flags(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(after) = rest.strip_prefix("--") {
        let end = flag_end(after);
        let (flag, tail) = after.split_at(end);
        // `--` alone ends them.
        if flag.is_empty() {
            return (found, tail.trim_start());
        }
        let (name, value) = flag.split_once('=').unwrap_or((flag, "true"));
        found.push((name.to_owned(), unquote(value)));
        rest = tail.trim_start();
    }
    (found, rest)
}

fn flag_end(text: &str) -> usize {
    let mut quote = None;
    for (index, c) in text.char_indices() {
        match quote {
            None if c.is_whitespace() => return index,
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    text.len()
}

fn unquote(value: &str) -> String {
    value.chars().filter(|c| !matches!(c, '"' | '\'')).collect()
}

/// `<<NAME`, `<<-NAME`, `<<"NAME"` in a line: name, whether tabs go, whether it is quoted.
pub fn heredocs(text: &str) -> Vec<(String, bool, bool)> {
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        let digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(rest) = digits.strip_prefix("<<") else { continue };
        let (strip, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let name = unquote(rest);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
        if !name.is_empty() && name.chars().all(word) {
            let quoted = name.len() != rest.len();
            found.push((name, strip, quoted));
        }
    }
    found
}
