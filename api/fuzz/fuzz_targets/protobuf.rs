//! Bytes are refused or decode to an object that survives the way to protobuf and back.
#![no_main]

use knarr_api::decode::{self, Format};
use knarr_api::{protobuf, schema};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for (group, kind) in [("", "Pod"), ("apiextensions.k8s.io", "CustomResourceDefinition")] {
        let of = schema::by_gvk(group, "v1", kind).expect("known kind");
        if let Ok(decoded) = decode::typed(bytes, Format::Protobuf, &of, true) {
            let encoded = protobuf::encode(&decoded.value, &of).expect("a canonical object has bytes");
            let again = decode::typed(&encoded, Format::Protobuf, &of, true).expect("and they decode");
            assert_eq!(again.value, decoded.value);
        }
    }
});
