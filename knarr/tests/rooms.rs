//! The rooms of ARCHITECTURE.md and who may use whom, checked against the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Room, what it may use, and what its tests may use besides.
const ROOMS: [(&str, &[&str], &[&str]); 12] = [
    ("api", &[], &[]),
    ("storage", &[], &[]),
    ("client", &["api"], &["testkit"]),
    ("apiserver", &["api", "storage"], &["testkit"]),
    ("controllers", &["api", "client"], &["testkit"]),
    ("scheduler", &["api", "client"], &["testkit"]),
    ("kubelet", &["api", "client", "runtime", "network"], &["testkit"]),
    ("runtime", &[], &[]),
    ("network", &["api", "client"], &["testkit"]),
    ("testkit", &["api", "storage", "client", "apiserver"], &[]),
    ("e2e", &[], &[]),
    (
        "knarr",
        &[
            "api",
            "storage",
            "client",
            "apiserver",
            "controllers",
            "scheduler",
            "kubelet",
            "runtime",
            "network",
        ],
        &["testkit"],
    ),
];

#[test]
fn rooms_use_only_what_the_architecture_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let allowed: BTreeMap<&str, _> =
        ROOMS.iter().map(|(room, uses, tests)| (*room, (*uses, *tests))).collect();
    let mut seen = BTreeSet::new();
    for package in packages {
        let room = room(package).expect("every package is a room");
        let (uses, tests) = allowed.get(room).unwrap_or_else(|| panic!("{room} is not in the architecture"));
        seen.insert(room);
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let Some(used) = self::room(dependency) else { continue };
            let for_tests = dependency["kind"] == "dev";
            let may = uses.contains(&used) || (for_tests && tests.contains(&used));
            assert!(may, "{room} must not use {used}: see ARCHITECTURE.md");
        }
    }
    assert_eq!(seen.len(), ROOMS.len(), "every room of the architecture exists");
}

fn room(package: &Value) -> Option<&str> {
    let name = package["name"].as_str()?;
    if name == "knarr" { Some(name) } else { name.strip_prefix("knarr-") }
}
