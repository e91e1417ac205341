//! Selectors are refused, or print as something that reads as the same selector.
#![no_main]

use knarr_api::selector::{FieldSelector, Selector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<Selector>() {
        let printed = selector.to_string();
        let again: Selector = printed.parse().expect("a printed selector reads");
        assert_eq!(again.to_string(), printed);
    }
    if let Ok(selector) = text.parse::<FieldSelector>() {
        let printed = selector.to_string();
        let again: FieldSelector = printed.parse().expect("a printed selector reads");
        assert_eq!(again.to_string(), printed);
    }
});
