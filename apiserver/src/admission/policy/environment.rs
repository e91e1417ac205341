//! What the expressions of webhooks and policies may name.

use std::sync::{Arc, LazyLock};

use knarr_api::cel::{Environment, Field, Object, Type};

/// The parts of an environment that depend on where the expression stands.
#[derive(Clone, Copy, Default)]
pub struct Scope {
    pub params: bool,
    pub authorizer: bool,
    /// Expressions may make objects to apply and operations of JSON patches.
    pub mutation: bool,
    /// The namespace is known: not to webhooks.
    pub namespace: bool,
}

/// The environment, with objects of a type or of any.
pub fn environment(scope: Scope, object: &Type, params: &Type) -> Environment {
    let mut env = Environment::new()
        .with("object", object.clone())
        .with("oldObject", object.clone())
        .with("request", REQUEST.clone());
    if scope.params {
        env.declare("params", params.clone());
    }
    if scope.namespace {
        env.declare("namespaceObject", NAMESPACE.clone());
    }
    if scope.authorizer {
        env.declare("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"));
        env.declare("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"));
    }
    if scope.mutation {
        env = env.with_structures(structure);
    }
    env
}

/// The type of the variables of a policy that were compiled so far.
pub fn variables(known: &[(String, Type)]) -> Type {
    let field =
        |(name, of): &(String, Type)| (name.clone(), Field { json: name.as_str().into(), of: of.clone() });
    let fields = known.iter().map(field).collect();
    Type::Object(Arc::new(Object { name: "kubernetes.variables".to_owned(), fields, open: false }))
}

/// `Object`, `Object.spec` and so on have any fields; `JSONPatch` has those of an operation.
fn structure(name: &str) -> Option<Arc<Object>> {
    if name == "JSONPatch" {
        return match &*JSON_PATCH {
            Type::Object(object) => Some(object.clone()),
            _ => None,
        };
    }
    let is_object = name == "Object" || name.starts_with("Object.");
    is_object.then(|| Arc::new(Object { name: name.to_owned(), open: true, ..Object::default() }))
}

static JSON_PATCH: LazyLock<Type> = LazyLock::new(|| {
    Type::object(
        "JSONPatch",
        [("op", Type::String), ("path", Type::String), ("from", Type::String), ("value", Type::Dyn)],
    )
});

static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let text = || Type::String;
    let kind = || {
        Type::object(
            "kubernetes.GroupVersionKind",
            [("group", text()), ("version", text()), ("kind", text())],
        )
    };
    let resource = || {
        Type::object(
            "kubernetes.GroupVersionResource",
            [("group", text()), ("version", text()), ("resource", text())],
        )
    };
    let user = Type::object(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", Type::list(text())),
            ("extra", Type::map(text(), Type::list(text()))),
        ],
    );
    Type::object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            // Reserved words have an escaped name, but upstream declares this one as it is.
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
});

static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    let texts = || Type::map(Type::String, Type::String);
    let metadata = Type::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", Type::String),
            ("generateName", Type::String),
            ("namespace", Type::String),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", Type::String),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::String),
            ("finalizers", Type::list(Type::String)),
        ],
    );
    let spec = Type::object("kubernetes.NamespaceSpec", [("finalizers", Type::list(Type::String))]);
    let status = Type::object("kubernetes.NamespaceStatus", [("phase", Type::String)]);
    Type::object("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)])
});

/// The type of `request`.
pub fn request_type() -> &'static Type {
    &REQUEST
}

/// The type of `namespaceObject`.
pub fn namespace_type() -> &'static Type {
    &NAMESPACE
}
