//! Any text compiles or is refused, and what compiles is evaluated within its cost.
#![no_main]

use knarr_api::cel::{Activation, Environment, Type, Value};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 10_000;

fuzz_target!(|source: &str| {
    let Ok(program) = Environment::new().with("self", Type::Dyn).compile(source) else { return };
    let object = serde_json::json!({"a": 1, "b": "text", "c": [1, 2, 3], "d": {"e": null, "f": 1.5}});
    let mut activation = Activation::new();
    activation.set("self", Value::from_untyped(&object));
    let evaluated = program.evaluate(&activation, LIMIT);
    if let Ok(value) = evaluated.result {
        assert!(evaluated.cost <= LIMIT);
        let _ = value.to_json();
    }
});
