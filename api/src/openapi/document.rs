//! Whole documents.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::Version;
use super::descriptions::Descriptions;
use super::path::{self, Paths};
use super::resource::{Definition, Resource};
use super::{custom, definition, gnostic};
use crate::gvk::{GroupVersion, GroupVersionKind};
use crate::schema::{self, TypeRef};

/// The document of one group version. `server_version` is what the server reports itself as.
pub fn v3(resources: &[Resource], server_version: &str) -> Vec<u8> {
    let texts = Descriptions::unpack();
    let mut out = Output::begin();
    out.member("openapi", &Value::from("3.0.0"));
    out.member("info", &info(server_version));
    out.map("paths", paths(resources, &texts), |operations| path::render(&operations, Version::V3));
    out.open("components");
    out.map("schemas", definitions(resources), |found| render(&found, Version::V3, &texts, resources));
    out.member("securitySchemes", &security());
    out.close();
    out.finish()
}

/// The document of everything served.
pub fn v2(resources: &[Resource], server_version: &str) -> Vec<u8> {
    let texts = Descriptions::unpack();
    let mut out = Output::begin();
    out.member("swagger", &Value::from("2.0"));
    out.member("info", &info(server_version));
    out.map("paths", paths(resources, &texts), |operations| path::render(&operations, Version::V2));
    out.map("definitions", definitions(resources), |found| render(&found, Version::V2, &texts, resources));
    out.member("securityDefinitions", &security());
    out.member("security", &json!([{"BearerToken": []}]));
    out.finish()
}

/// [`v2`] in the protobuf form that client-go asks for.
pub fn v2_protobuf(resources: &[Resource], server_version: &str) -> Vec<u8> {
    let texts = Descriptions::unpack();
    let mut out = gnostic::Document::begin(&info(server_version));
    let paths = paths(resources, &texts);
    out.paths(paths.into_iter().map(|(name, operations)| (name, path::render(&operations, Version::V2))));
    let definitions = definitions(resources);
    out.definitions(
        definitions.into_iter().map(|(name, found)| (name, render(&found, Version::V2, &texts, resources))),
    );
    out.finish(&security())
}

/// A name for the documents made of these resources, in upper-case hexadecimal: the same for the same input and the
/// same build, another when anything in the documents may differ. Costs far less than building one.
pub fn fingerprint(resources: &[Resource], server_version: &str) -> String {
    let mut hash = Sha512::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(server_version);
    for resource in resources {
        // Built-in definitions are the build's; custom ones come from outside and are hashed whole.
        hash.update(format!("{resource:?}", resource = Summary(resource)));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

struct Summary<'a>(&'a Resource);

impl std::fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Resource { kind, name, namespaced, verbs, subresources, definition, list } = self.0;
        write!(f, "{kind} {name} {namespaced} {verbs:?}")?;
        let parts = subresources.iter().map(|sub| (sub.name.as_ref(), &sub.definition));
        for (name, definition) in parts.chain([("", definition), ("list", list)]) {
            write!(f, " {name}={}", definition.name())?;
            if let Definition::Custom { schema: Some(schema), .. } = definition {
                write!(f, "{schema}")?;
            }
        }
        Ok(())
    }
}

fn info(server_version: &str) -> Value {
    json!({"title": "Kubernetes", "version": server_version})
}

fn security() -> Value {
    json!({"BearerToken": {
        "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
    }})
}

fn paths(resources: &[Resource], texts: &Descriptions) -> Paths {
    let mut paths = Paths::new();
    for resource in resources {
        path::discovery(&resource.kind, &mut paths);
        path::of_resource(resource, texts, &mut paths);
    }
    paths
}

fn render(definition: &Definition, version: Version, texts: &Descriptions, resources: &[Resource]) -> Value {
    match definition {
        Definition::Builtin(of) => definition::of_type(of, version, texts, &further_kinds(of, resources)),
        Definition::Custom { kind, schema } => custom::object(kind, schema.as_deref(), version),
        Definition::CustomList { kind, item, plural } => custom::list(kind, item, plural, version),
    }
}

/// Kinds of the machinery itself: all are known in `v1`, and some in every group version.
fn further_kinds(of: &TypeRef, resources: &[Resource]) -> Vec<GroupVersionKind> {
    let mut versions = match of.short_name() {
        _ if !of.name.contains(".pkg.apis.meta.") => return Vec::new(),
        "Status" | "APIResourceList" if of.gvk.is_none() => Vec::new(),
        "DeleteOptions" | "WatchEvent" => {
            resources.iter().map(|resource| resource.kind.group_version()).collect()
        }
        _ => return Vec::new(),
    };
    versions.push(GroupVersion::new("", "v1"));
    versions.sort();
    versions.dedup();
    let kind = of.short_name().to_owned();
    versions.into_iter().map(|gv| GroupVersionKind::new(gv.group, gv.version, kind.clone())).collect()
}

/// All definitions that the resources refer to, directly or not, by name.
fn definitions(resources: &[Resource]) -> BTreeMap<String, Definition> {
    let mut found = BTreeMap::new();
    let mut open: Vec<TypeRef> = path::SHARED.iter().filter_map(|name| schema::by_name(name)).collect();
    for resource in resources {
        let subresources = resource.subresources.iter().filter(|sub| !sub.kind.kind.ends_with("Options"));
        let parts = subresources.map(|sub| &sub.definition);
        for definition in parts.chain([&resource.definition, &resource.list]) {
            if let Definition::Builtin(of) = definition {
                open.push(of.clone());
            } else {
                open.extend(custom::REFERRED.iter().filter_map(|name| schema::by_name(name)));
                found.insert(definition.name().into_owned(), definition.clone());
            }
        }
    }
    while let Some(of) = open.pop() {
        if !found.contains_key(of.name.as_ref()) {
            open.extend(definition::references(&of));
            found.insert(of.name.to_string(), Definition::Builtin(of));
        }
    }
    found
}

/// JSON written member by member, so that no document stands in memory as a tree.
struct Output {
    bytes: Vec<u8>,
    first: bool,
}

impl Output {
    fn begin() -> Self {
        Self { bytes: vec![b'{'], first: true }
    }

    fn key(&mut self, name: &str) {
        if !std::mem::replace(&mut self.first, false) {
            self.bytes.push(b',');
        }
        self.value(&Value::from(name));
        self.bytes.push(b':');
    }

    fn value(&mut self, value: &Value) {
        serde_json::to_writer(&mut self.bytes, value).expect("a value with string keys is written to memory");
    }

    fn member(&mut self, name: &str, value: &Value) {
        self.key(name);
        self.value(value);
    }

    fn open(&mut self, name: &str) {
        self.key(name);
        self.bytes.push(b'{');
        self.first = true;
    }

    fn close(&mut self) {
        self.bytes.push(b'}');
        self.first = false;
    }

    fn map<T>(&mut self, name: &str, entries: BTreeMap<String, T>, render: impl Fn(T) -> Value) {
        self.open(name);
        for (key, entry) in entries {
            self.member(&key, &render(entry));
        }
        self.close();
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'}');
        self.bytes
    }
}
