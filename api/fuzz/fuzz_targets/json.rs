//! A body is refused or decodes to an object that decodes to itself.
#![no_main]

use knarr_api::decode::{self, Format};
use knarr_api::schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let of = schema::by_gvk("apps", "v1", "Deployment").expect("known kind");
    if let Ok(decoded) = decode::typed(bytes, Format::Json, &of, true) {
        let again = decode::normalize(&decoded.value, &of, true).expect("a canonical object decodes");
        assert_eq!(again.value, decoded.value);
        assert!(again.strict_errors.is_empty());
    }
    let _ = decode::untyped(bytes, Format::Json, true);
});
