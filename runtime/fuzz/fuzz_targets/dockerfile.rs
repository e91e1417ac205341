//! Any text is refused with a line of its own or read, and what is read expands within its limits.
#![no_main]

use knarr_runtime::build::dockerfile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lookup = |name: &str| (name.len() < 3).then(|| "value ".repeat(100));
    match dockerfile::parse(text) {
        Ok(file) => {
            for word in file.stages.iter().flat_map(|stage| &stage.instructions).map(|i| &i.text) {
                if let Ok(expanded) = dockerfile::expand(word, file.escape, &lookup) {
                    assert!(expanded.len() <= 2 << 20);
                }
            }
        }
        Err(error) => assert!(error.line >= 1 && error.line <= text.lines().count().max(1)),
    }
});
