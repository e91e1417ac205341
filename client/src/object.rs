//! What a cache must know of an object, and the key it is kept under.

use std::{fmt, sync::Arc};

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::{Deserialize, de::DeserializeOwned};

/// Namespace and name of an object; the namespace is empty for cluster-scoped ones. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object that is in no namespace.
    pub fn cluster(name: impl Into<Arc<str>>) -> Self {
        Self::new("", name)
    }

    pub fn of<K: Cached>(object: &K) -> Self {
        Self::new(object.namespace(), object.name())
    }
}

/// `namespace/name`, or the name alone, as upstream writes keys into logs and messages.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A decoded object that an informer can keep.
///
/// Every type of `k8s_openapi` is one. A component that needs only a few fields of a large kind implements this
/// for a struct of just these fields and saves the memory of the rest.
pub trait Cached: DeserializeOwned + Send + Sync + 'static {
    fn namespace(&self) -> &str;
    fn name(&self) -> &str;
    fn uid(&self) -> &str;
    fn resource_version(&self) -> &str;

    /// Drops what no reader of a cache wants. Called once after decoding.
    fn shrink(&mut self) {}

    /// Whether [`Self::lineage`] is kept, so that garbage collection can use this cache and need not make one.
    const KEEPS_LINEAGE: bool = false;

    /// What garbage collection goes by; `None` if the type does not keep it.
    fn lineage(&self) -> Option<Lineage<'_>> {
        None
    }
}

/// Owners, finalizers and deletion of an object.
#[derive(Debug, Clone, Copy)]
pub struct Lineage<'a> {
    pub owners: &'a [OwnerReference],
    pub finalizers: &'a [String],
    pub is_being_deleted: bool,
}

impl<K: Resource + DeserializeOwned + Send + Sync + 'static> Cached for K {
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }

    /// Field ownership is bulky, and a PUT without it leaves the stored one as it is.
    fn shrink(&mut self) {
        self.meta_mut().managed_fields = None;
    }

    const KEEPS_LINEAGE: bool = true;

    fn lineage(&self) -> Option<Lineage<'_>> {
        let meta = self.meta();
        Some(Lineage {
            owners: meta.owner_references.as_deref().unwrap_or_default(),
            finalizers: meta.finalizers.as_deref().unwrap_or_default(),
            is_being_deleted: meta.deletion_timestamp.is_some(),
        })
    }
}

/// Makes a struct of a few fields something that informers keep: by the `namespace`, `name`, `uid` and
/// `resource_version` of its `metadata`. What else it does differently follows in braces.
#[macro_export]
macro_rules! cached_by_metadata {
    ($kind:ty $({ $($more:tt)* })?) => {
        impl $crate::Cached for $kind {
            fn namespace(&self) -> &str {
                &self.metadata.namespace
            }

            fn name(&self) -> &str {
                &self.metadata.name
            }

            fn uid(&self) -> &str {
                &self.metadata.uid
            }

            fn resource_version(&self) -> &str {
                &self.metadata.resource_version
            }

            $($($more)*)?
        }
    };
}

/// The few facts that garbage collection needs of an object of any kind.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Skeleton {
    metadata: SkeletonMeta,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SkeletonMeta {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    resource_version: Box<str>,
    deletion_timestamp: Option<Time>,
    finalizers: Vec<String>,
    owner_references: Vec<OwnerReference>,
}

cached_by_metadata!(Skeleton {
    const KEEPS_LINEAGE: bool = true;

    fn lineage(&self) -> Option<Lineage<'_>> {
        Some(Lineage {
            owners: &self.metadata.owner_references,
            finalizers: &self.metadata.finalizers,
            is_being_deleted: self.metadata.deletion_timestamp.is_some(),
        })
    }
});

/// The owner reference that says who manages this object, if anybody does.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_deref()?.iter().find(|owner| owner.controller == Some(true))
}

/// A controlling, deletion-blocking owner reference to `owner`.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference { controller: Some(true), block_owner_deletion: Some(true), ..owner_reference(owner) }
}

/// A plain owner reference to `owner`.
pub fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// The full reference that Events carry, with the resourceVersion the reporter saw.
pub fn object_reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference { resource_version: object.meta().resource_version.clone(), ..object.object_ref(&()) }
}
