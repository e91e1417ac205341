//! DefaultStorageClass and DefaultIngressClass: who names no class gets the one marked as default.

use std::cmp::Reverse;

use async_trait::async_trait;
use knarr_api::status::Status;
use serde_json::Value;

use super::lookup::Lookup;
use super::pod::text;
use super::{Admission, Attributes, Operation};
use crate::objects::Resource;

/// One kind of object with a class.
pub struct DefaultClass {
    pub lookup: Lookup,
    /// Group and plural of what has a class.
    pub of: (&'static str, &'static str),
    pub classes: Resource<'static>,
    /// The field of the spec that names the class.
    pub field: &'static str,
    /// An annotation that named it before there was the field.
    pub legacy: &'static str,
    /// The annotations that mark a class as default.
    pub marks: &'static [&'static str],
}

pub fn storage_class(lookup: Lookup) -> DefaultClass {
    DefaultClass {
        lookup,
        of: ("", "persistentvolumeclaims"),
        classes: Resource::new("storage.k8s.io", "storageclasses"),
        field: "storageClassName",
        legacy: "volume.beta.kubernetes.io/storage-class",
        marks: &[
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ],
    }
}

pub fn ingress_class(lookup: Lookup) -> DefaultClass {
    DefaultClass {
        lookup,
        of: ("networking.k8s.io", "ingresses"),
        classes: Resource::new("networking.k8s.io", "ingressclasses"),
        field: "ingressClassName",
        legacy: "kubernetes.io/ingress.class",
        marks: &["ingressclass.kubernetes.io/is-default-class"],
    }
}

impl DefaultClass {
    /// The newest of the classes marked as default.
    fn default(&self) -> Result<Option<String>, Status> {
        let classes: Vec<Value> = self.lookup.list(self.classes, None)?;
        let marked = classes
            .iter()
            .map(|class| &class["metadata"])
            .filter(|metadata| self.marks.iter().any(|mark| metadata["annotations"][*mark] == "true"));
        // Timestamps of one format sort as text.
        let newest = marked
            .min_by_key(|metadata| (Reverse(text(&metadata["creationTimestamp"])), text(&metadata["name"])));
        Ok(newest.map(|metadata| text(&metadata["name"]).to_owned()))
    }
}

#[async_trait]
impl Admission for DefaultClass {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let (group, plural) = self.of;
        let applies = attributes.is(group, plural);
        let Some(object) = attributes.object.as_mut().filter(|_| applies) else { return Ok(()) };
        let named = !object["spec"][self.field].is_null()
            || object["metadata"]["annotations"].get(self.legacy).is_some();
        if !named
            && let Some(class) = self.default()?
            && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.insert(self.field.to_owned(), class.into());
        }
        Ok(())
    }
}
