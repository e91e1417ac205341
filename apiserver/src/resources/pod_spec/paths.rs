//! Paths inside volumes, and modes of files.

use knarr_api::field::ErrorList;

use crate::resources::at::At;

pub fn no_backsteps(at: &At<'_>, errors: &mut ErrorList) {
    if at.str().split('/').any(|part| part == "..") {
        errors.push(at.invalid("must not contain '..'"));
    }
}

/// A path that stays below where it starts.
pub fn descending(at: &At<'_>, errors: &mut ErrorList) {
    if at.str().starts_with('/') {
        errors.push(at.invalid("must be a relative path"));
    }
    no_backsteps(at, errors);
}

/// A descending path that does not use the names volumes keep for themselves.
pub fn non_reserved(at: &At<'_>, errors: &mut ErrorList) {
    descending(at, errors);
    if at.str().starts_with("..") && !at.str().starts_with("../") {
        errors.push(at.invalid("must not start with '..'"));
    }
}

pub fn mode(at: &At<'_>, errors: &mut ErrorList) {
    if at.i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.push(at.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}
