//! YAML of any form is read or refused in bounded time and space.
#![no_main]

use knarr_api::decode::{self, Format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = decode::untyped(bytes, Format::Yaml, true);
});
