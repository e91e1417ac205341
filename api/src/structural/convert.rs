//! The schema in the form that built-in types have, for patches and server-side apply.

use std::sync::Arc;

use super::{Additional, Form, Structural};
use crate::gvk::{GroupVersionKind, Name};
use crate::schema::{self, Field, List, ListKind, Map, Shape, Type, TypeRef, UnknownFields};

impl Structural {
    /// The type of whole objects of this schema.
    pub fn to_type(&self, kind: &GroupVersionKind) -> TypeRef {
        let mut of = self.structure(kind.kind.clone(), true);
        of.gvk = Some(kind.clone());
        of.published = true;
        of.into()
    }

    fn structure(&self, name: Name, embedded: bool) -> Type {
        let mut fields: Vec<Field> = Vec::new();
        if embedded {
            let metadata =
                schema::by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("a built-in type");
            fields.push(Field::new("apiVersion", Shape::String));
            fields.push(Field::new("kind", Shape::String));
            fields.push(Field::new("metadata", Shape::Struct(metadata)));
        }
        let required = &self.constraints().required;
        let own = self.properties.iter().filter(|(name, _)| !embedded || !super::prune::is_meta(name));
        fields.extend(own.map(|(name, schema)| {
            let mut field = Field::new(name.clone(), schema.shape());
            field.required = required.contains(name);
            field.pointer = true;
            field.default.clone_from(&schema.default);
            field
        }));
        let mut of = Type::with_fields(name, fields);
        of.atomic = self.atomic;
        of.unknown = if self.preserve_unknown { UnknownFields::Keep } else { UnknownFields::Prune };
        of
    }

    fn shape(&self) -> Shape {
        if self.int_or_string {
            return Shape::IntOrString;
        }
        match self.form {
            Some(Form::String) => Shape::String,
            Some(Form::Integer) => Shape::Int64,
            Some(Form::Number) => Shape::Number,
            Some(Form::Boolean) => Shape::Bool,
            Some(Form::Array) => Shape::List(Arc::new(self.list())),
            Some(Form::Object) => self.object(),
            None => Shape::Any,
        }
    }

    fn list(&self) -> List {
        List {
            item: self.items.as_ref().map_or(Shape::Any, |items| items.shape()),
            kind: self.list_type.unwrap_or(ListKind::Atomic),
            keys: self.list_map_keys.iter().map(|key| Name::Owned(key.clone())).collect(),
            declared: self.list_type.is_some(),
            pointers: true,
        }
    }

    fn object(&self) -> Shape {
        match &self.additional {
            Some(Additional::Of(value)) => {
                Shape::Map(Arc::new(Map { value: value.shape(), atomic: self.atomic }))
            }
            Some(Additional::Allowed(true)) => {
                Shape::Map(Arc::new(Map { value: Shape::Any, atomic: self.atomic }))
            }
            _ if self.properties.is_empty() && !self.embedded && self.preserve_unknown => Shape::Object,
            _ => Shape::Struct(self.structure(Name::default(), self.embedded).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_semantics_survive() {
        let schema = Structural::parse(&json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-map-type": "atomic", "properties": {
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                          "items": {"type": "object", "properties": {"port": {"x-kubernetes-int-or-string": true}}}},
        }}}}));
        let of = schema.to_type(&GroupVersionKind::new("example.com", "v1", "Toy"));
        assert!(matches!(of.field("metadata").expect("metadata").shape, Shape::Struct(_)));
        let Shape::Struct(spec) = &of.field("spec").expect("spec").shape else { panic!("spec is a struct") };
        assert!(spec.atomic);
        let Shape::List(ports) = &spec.field("ports").expect("ports").shape else {
            panic!("ports is a list")
        };
        assert_eq!((ports.kind, ports.keys.as_ref()), (ListKind::Map, &["port".into()][..]));
        let Shape::Struct(port) = &ports.item else { panic!("a port is a struct") };
        assert!(matches!(port.field("port").expect("port").shape, Shape::IntOrString));
    }
}
