//! Any patterns are refused or read, and hold any path against them in bounded time.
#![no_main]

use knarr_runtime::build::ignore::{self, Ignore};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|given: (&str, &str)| {
    let (patterns, path) = given;
    if let Ok(ignore) = Ignore::parse(patterns) {
        let path = ignore::clean(path);
        assert!(!path.contains("//") && !path.starts_with('/'));
        let _ = ignore.excludes(&path);
    }
});
