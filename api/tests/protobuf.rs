//! Objects survive the way to protobuf and back, for every type.

use knarr_api::decode::{self, Format};
use knarr_api::protobuf::{self, Envelope, ProtobufError};
use knarr_api::schema::{self, Shape, Type};
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::{Map, Value, json};

/// A message of upstream's, byte for byte: a ConfigMap with a name and one key.
#[test]
fn a_config_map_has_upstreams_bytes() {
    let of = schema::by_gvk("", "v1", "ConfigMap").expect("config map");
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let bytes = protobuf::encode(&object, &of).expect("encodes");
    let expected: &[u8] = &[
        b'k', b'8', b's', 0, // magic
        0x0a, 15, 0x0a, 2, b'v', b'1', 0x12, 9, b'C', b'o', b'n', b'f', b'i', b'g', b'M', b'a',
        b'p', // kind
        0x12, 13, // raw
        0x0a, 3, 0x0a, 1, b'a', // metadata.name
        0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v', // data
        0x1a, 0, 0x22, 0, // content encoding and type
    ];
    assert_eq!(bytes, expected);
    let decoded = decode::typed(&bytes, Format::Protobuf, &of, true).expect("decodes");
    assert_eq!(decoded.value, object);
}

/// Objects with every field set, as upstream's own tests hold them in both forms.
#[test]
fn whole_objects_have_upstreams_bytes() {
    for (kind, json, bytes) in [
        (("apps", "v1", "DaemonSet"), GOLDEN_DAEMON_SET_JSON, GOLDEN_DAEMON_SET),
        (("policy", "v1", "PodDisruptionBudget"), GOLDEN_BUDGET_JSON, GOLDEN_BUDGET),
        (("core", "v1", "PersistentVolume"), GOLDEN_VOLUME_JSON, GOLDEN_VOLUME),
    ] {
        let group = if kind.0 == "core" { "" } else { kind.0 };
        let of = schema::by_gvk(group, kind.1, kind.2).expect("known kind");
        let from_json = decode::typed(json.as_bytes(), Format::Json, &of, true).expect("json");
        assert_eq!(from_json.strict_errors, Vec::<String>::new());
        let exact: Value = serde_json::from_str(json).expect("json");
        assert_eq!(from_json.value, exact, "nothing is lost or added");
        let from_bytes = decode::typed(bytes, Format::Protobuf, &of, true).expect("protobuf");
        assert_eq!(from_bytes.value, from_json.value);
        assert!(protobuf::encode(&from_json.value, &of).expect("encodes") == bytes, "{}", kind.2);
    }
}

const GOLDEN_DAEMON_SET_JSON: &str = include_str!("golden/apps.v1.DaemonSet.json");
const GOLDEN_DAEMON_SET: &[u8] = include_bytes!("golden/apps.v1.DaemonSet.pb");
const GOLDEN_BUDGET_JSON: &str = include_str!("golden/policy.v1.PodDisruptionBudget.json");
const GOLDEN_BUDGET: &[u8] = include_bytes!("golden/policy.v1.PodDisruptionBudget.pb");
const GOLDEN_VOLUME_JSON: &str = include_str!("golden/core.v1.PersistentVolume.json");
const GOLDEN_VOLUME: &[u8] = include_bytes!("golden/core.v1.PersistentVolume.pb");

#[test]
fn embedded_structs_are_nested_on_the_wire() {
    let of = schema::by_name("io.k8s.api.core.v1.Probe").expect("probe");
    let object = json!({"tcpSocket": {"port": "http"}, "periodSeconds": 7});
    let message = protobuf::message(&object, &of).expect("encodes");
    // handler = 1 { tcpSocket = 3 { port = 1 { type = 1: 1, intVal = 2: 0, strVal = 3: http } } }, periodSeconds = 4
    assert_eq!(
        message,
        [0x0a, 14, 0x1a, 12, 0x0a, 10, 8, 1, 16, 0, 0x1a, 4, b'h', b't', b't', b'p', 0x20, 7]
    );
}

#[test]
fn what_is_no_object_is_refused_in_upstreams_words() {
    let of = schema::by_gvk("", "v1", "Pod").expect("pod");
    let refuse =
        |bytes: &[u8]| decode::typed(bytes, Format::Protobuf, &of, false).expect_err("refused").to_string();
    assert_eq!(refuse(b""), "empty data");
    assert_eq!(
        refuse(b"{}"),
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
    assert_eq!(refuse(b"k8s\0"), "empty body");
    assert_eq!(refuse(b"k8s\0\x12\x05\x0a"), "unexpected EOF");
    let table = schema::by_name("io.k8s.apimachinery.pkg.apis.meta.v1.Table").expect("table");
    assert!(matches!(protobuf::encode(&json!({}), &table), Err(ProtobufError::NotMarshalable(_))));
}

#[test]
fn every_type_survives_the_round_trip() {
    let mut random = TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha);
    for of in schema::all().filter(|of| of.protobuf && !of.fields.is_empty()) {
        for _ in 0..5 {
            let built = build(&of, &mut random, 0);
            let value = decode::normalize(&built, &of, false)
                .unwrap_or_else(|error| panic!("{}: {error}: {built}", of.name))
                .value;
            let bytes = protobuf::encode(&value, &of).unwrap_or_else(|error| panic!("{}: {error}", of.name));
            let envelope = Envelope::read(&bytes).expect("envelope");
            let back =
                protobuf::decode(&envelope, &of).unwrap_or_else(|error| panic!("{}: {error}", of.name));
            assert_eq!(lossy(back), lossy(value), "{}", of.name);
        }
    }
}

/// Protobuf does not tell an empty list or map from none.
fn lossy(value: Value) -> Value {
    match value {
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Array(items) => Value::Array(items.into_iter().map(lossy).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| {
                    !matches!(value, Value::Null) && *value != json!([]) && *value != json!({})
                })
                .map(|(key, value)| (key, lossy(value)))
                .collect(),
        ),
        other => other,
    }
}

/// A random object of the type.
fn build(of: &Type, random: &mut TestRng, depth: usize) -> Value {
    let mut map = Map::new();
    // Only a whole object's envelope carries its kind.
    let whole = depth == 0 && of.gvk.is_some();
    for field in of.fields.iter().filter(|field| whole || field.wire.is_some()) {
        if random.random_bool(if depth > 3 { 0.1 } else { 0.6 }) {
            map.insert(field.name.clone().into_owned(), shape(&field.shape, random, depth + 1));
        }
    }
    Value::Object(map)
}

fn shape(shape: &Shape, random: &mut TestRng, depth: usize) -> Value {
    let text = |random: &mut TestRng| format!("t{}é", random.random_range(0..1000));
    match shape {
        Shape::String => text(random).into(),
        Shape::Bool => random.random_bool(0.5).into(),
        Shape::Int32 => random.random::<i32>().into(),
        Shape::Int64 => random.random::<i64>().into(),
        Shape::Number => f64::from(random.random::<i32>()).mul_add(0.5, 0.25).into(),
        Shape::Bytes => "YWJj".into(),
        Shape::Time => "2024-02-29T01:02:03Z".into(),
        Shape::MicroTime => "1969-12-31T23:59:58.000042Z".into(),
        Shape::Duration => "1h0m0.5s".into(),
        Shape::Quantity => "1500m".into(),
        Shape::IntOrString if random.random_bool(0.5) => random.random::<i32>().into(),
        Shape::IntOrString => text(random).into(),
        Shape::Any | Shape::Object => json!({"any": [1, null, "x", {"y": 0.5}]}),
        Shape::OneOf(of) => {
            self::shape(&of.one_of[random.random_range(0..of.one_of.len())].shape, random, depth)
        }
        Shape::Struct(of) if depth < 6 => build(of, random, depth),
        Shape::Struct(_) => json!({}),
        Shape::List(list) => {
            (0..random.random_range(0..3)).map(|_| self::shape(&list.item, random, depth)).collect()
        }
        Shape::Map(map) => Value::Object(
            (0..random.random_range(0..3))
                .map(|at| (format!("k{at}"), self::shape(&map.value, random, depth)))
                .collect(),
        ),
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let of = schema::by_gvk("", "v1", "Pod").expect("pod");
        let mut framed = b"k8s\0\x12".to_vec();
        framed.push(bytes.len().min(127) as u8);
        framed.extend_from_slice(&bytes);
        let _ = decode::typed(&framed, Format::Protobuf, &of, true);
        let _ = decode::typed(&bytes, Format::Protobuf, &of, true);
        let _ = decode::typed(&bytes, Format::Json, &of, true);
        let _ = decode::untyped(&bytes, Format::Yaml, true);
    }
}
