//! Any schema and any object: what was pruned stays pruned, what was defaulted stays defaulted.
#![no_main]

use knarr_api::structural::Structural;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (Ok(schema), Ok(mut object)) =
        (serde_json::from_slice::<Value>(&bytes[..at]), serde_json::from_slice::<Value>(&bytes[at + 1..]))
    else {
        return;
    };
    let schema = Structural::parse(&schema);
    schema.prune(&mut object);
    assert!(schema.prune(&mut object).is_empty());
    schema.prune_nulls(&mut object);
    schema.apply_defaults(&mut object);
    let _ = schema.validate(&object);
    let _ = schema.validate_lists(&object);
});
