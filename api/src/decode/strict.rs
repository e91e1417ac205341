//! What a strict decoder finds to refuse: unknown and repeated fields, by path.

use std::fmt::Write;

use super::error::GoQuoted;

/// Upstream stops collecting after this many.
const MAX_ERRORS: usize = 100;

/// Collects strict errors while a document is walked.
#[derive(Debug, Default)]
pub(super) struct Strict {
    /// `spec.containers[0]`
    path: String,
    errors: Vec<String>,
}

/// A length of the path to return to.
pub(super) struct Mark(usize);

impl Strict {
    pub(super) fn push_key(&mut self, key: &str) -> Mark {
        let mark = Mark(self.path.len());
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
        mark
    }

    pub(super) fn push_index(&mut self, index: usize) -> Mark {
        let mark = Mark(self.path.len());
        let _ = write!(self.path, "[{index}]");
        mark
    }

    pub(super) fn pop(&mut self, mark: Mark) {
        self.path.truncate(mark.0);
    }

    pub(super) fn unknown(&mut self, key: &str) {
        self.save("unknown field", key);
    }

    pub(super) fn duplicate(&mut self, key: &str) {
        self.save("duplicate field", key);
    }

    pub(super) fn into_errors(self) -> Vec<String> {
        self.errors
    }

    fn save(&mut self, what: &str, key: &str) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        let mark = self.push_key(key);
        let error = format!("{what} {}", GoQuoted(&self.path));
        self.pop(mark);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}
