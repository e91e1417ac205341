//! Quantities are refused, or print as the same amount; arithmetic on them never fails.
#![no_main]

use knarr_api::quantity::Quantity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(quantity) = text.parse::<Quantity>() else { return };
    let again: Quantity = quantity.to_string().parse().expect("a printed quantity reads");
    assert_eq!(again, quantity);
    let twice = quantity.add(&quantity);
    assert!(twice.sub(&quantity) == quantity || twice.as_f64().abs() >= 9e18);
    let _ = (quantity.value(), quantity.milli_value(), quantity.as_f64(), quantity.as_i64());
});
