//! The built-in resources, from the embedded table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use knarr_api::resources::{self, SelectableFields, selectable_fields};
use knarr_api::table::Printer;
use knarr_storage::Error as StoreError;

use super::{
    Answer, Catalogue, Computed, Connect, CreateSubresource, FieldNames, Group, Name, Resource, ScalePaths,
    Serving, Storage, Subresource, SubresourceServing, Version,
};
use crate::cache::{Extractor, FieldSource, ROOT, WatchCache};
use crate::registry::Rules;
use crate::resources as strategies;

/// What serves resources and subresources that are more than stored objects. Those that nobody serves are absent.
#[derive(Default, Clone)]
pub struct Extensions {
    answers: HashMap<(&'static str, &'static str), Arc<dyn Answer>>,
    computed: HashMap<(&'static str, &'static str), Arc<dyn Computed>>,
    creates: HashMap<(&'static str, &'static str), Arc<dyn CreateSubresource>>,
    connects: HashMap<(&'static str, &'static str), Arc<dyn Connect>>,
    documents: HashMap<&'static str, Arc<Document>>,
}

/// A fixed answer to GET.
pub struct Document {
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Extensions {
    /// Serves a resource that keeps nothing, in all its versions.
    pub fn answer(&mut self, group: &'static str, resource: &'static str, by: Arc<dyn Answer>) {
        self.answers.insert((group, resource), by);
    }

    /// Serves a resource whose objects are made when they are asked for.
    pub fn compute(&mut self, group: &'static str, resource: &'static str, by: Arc<dyn Computed>) {
        self.computed.insert((group, resource), by);
    }

    /// Serves the posted subresource `name` of a resource.
    pub fn create(&mut self, resource: &'static str, name: &'static str, by: Arc<dyn CreateSubresource>) {
        self.creates.insert((resource, name), by);
    }

    /// Serves a fixed document at a path outside the API groups.
    pub fn document(&mut self, path: &'static str, content_type: &'static str, body: impl Into<Bytes>) {
        self.documents.insert(path, Arc::new(Document { content_type, body: body.into() }));
    }

    /// The document at a path.
    pub fn document_at(&self, path: &str) -> Option<&Arc<Document>> {
        self.documents.get(path)
    }

    /// The paths of all documents.
    pub fn document_paths(&self) -> impl Iterator<Item = &'static str> {
        self.documents.keys().copied()
    }

    /// Serves the subresource `name` of a resource whatever the method.
    pub fn connect(&mut self, resource: &'static str, name: &'static str, by: Arc<dyn Connect>) {
        self.connects.insert((resource, name), by);
    }
}

/// Everything that 1.37 serves by default. Reads what is stored of each resource into the cache.
pub async fn builtin(cache: &WatchCache, extensions: &Extensions) -> Result<Catalogue, StoreError> {
    let mut storages: BTreeMap<String, Arc<Storage>> = BTreeMap::new();
    let mut groups = Vec::new();
    for group in resources::groups() {
        let mut versions = Vec::new();
        for version in group.versions.iter().filter(|version| group.enabled_by_default.contains(version)) {
            let mut served: BTreeMap<Name, Arc<Resource>> = BTreeMap::new();
            for facts in resources::of_version(group.name, version).filter(|facts| facts.enabled_by_default) {
                if let Some(resource) = resource(cache, extensions, facts, &mut storages).await? {
                    served.insert(facts.name.into(), Arc::new(resource));
                }
            }
            if !served.is_empty() {
                versions.push(Version { name: (*version).into(), resources: served });
            }
        }
        if !versions.is_empty() {
            groups.push(Group { name: group.name.into(), versions });
        }
    }
    Ok(Catalogue::new(groups))
}

async fn resource(
    cache: &WatchCache,
    extensions: &Extensions,
    facts: &'static resources::Resource,
    storages: &mut BTreeMap<String, Arc<Storage>>,
) -> Result<Option<Resource>, StoreError> {
    let is = (facts.group, facts.name);
    let serving = if facts.is_virtual || facts.is_aggregated {
        match (extensions.answers.get(&is), extensions.computed.get(&is)) {
            (Some(answer), _) => Serving::Answered(answer.clone()),
            (None, Some(computed)) => Serving::Computed(computed.clone()),
            (None, None) => return Ok(None),
        }
    } else {
        let prefix = prefix(facts);
        let storage = match storages.get(&prefix) {
            Some(known) => known.clone(),
            None => {
                let made = Arc::new(storage(cache, facts, &prefix).await?);
                storages.insert(prefix, made.clone());
                made
            }
        };
        Serving::Stored(storage)
    };
    let names = |list: &[&'static str]| list.iter().map(|name| Name::from(*name)).collect();
    Ok(Some(Resource {
        group: facts.group.into(),
        version: facts.version.into(),
        name: facts.name.into(),
        singular: facts.singular.into(),
        kind: facts.kind.into(),
        list_kind: format!("{}List", facts.kind),
        namespaced: facts.namespaced,
        verbs: names(&facts.verbs),
        short_names: names(&facts.short_names),
        categories: names(&facts.categories),
        storage_version_hash: facts.storage_version_hash.unwrap_or_default().to_owned(),
        schema: Some(facts.type_ref()),
        custom: None,
        subresources: subresources(extensions, facts),
        fields: field_names(facts),
        bare_items: true,
        warning: warning(facts).map(str::to_owned),
        printer: Printer::built_in(facts.group, facts.kind),
        serving,
    }))
}

/// What upstream warns of when a deprecated resource is used.
fn warning(facts: &resources::Resource) -> Option<&'static str> {
    match (facts.group, facts.version, facts.name) {
        ("", "v1", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "v1", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

/// Where the objects of every resource that is stored lie, with a closing slash.
pub fn stored_prefixes() -> impl Iterator<Item = (String, &'static resources::Resource)> {
    let stored = resources::all().iter().filter(|facts| !facts.is_virtual && !facts.is_aggregated);
    stored.map(|facts| (prefix(facts), facts))
}

/// Where objects lie. Both groups that show events show the same ones.
fn prefix(facts: &resources::Resource) -> String {
    match (facts.etcd, facts.group) {
        (Some(path), _) => format!("{ROOT}{path}/"),
        (None, "apiextensions.k8s.io" | "apiregistration.k8s.io") => {
            format!("{ROOT}{}/{}/", facts.group, facts.name)
        }
        (None, _) => format!("{ROOT}{}/", facts.name),
    }
}

/// The resource as it is stored: in the version that the group prefers of those that are served.
async fn storage(
    cache: &WatchCache,
    facts: &'static resources::Resource,
    prefix: &str,
) -> Result<Storage, StoreError> {
    let fields = stored_fields(facts.group, facts.version, facts.name);
    let mut extractor = Extractor::new(fields.iter().map(|field| (field_path(facts, field), absent(field))));
    let slot = |name: &str| fields.iter().position(|field| *field == name);
    if let ("events", Some(source), Some(reporting)) =
        (facts.name, slot("source"), slot("reportingComponent"))
    {
        // Events of the newer API name only the controller that reports.
        extractor = extractor.or_else(source, reporting);
    }
    let has_status = facts.subresource("status").is_some();
    Ok(Storage {
        group: facts.group.into(),
        version: facts.version.into(),
        resource: facts.name.into(),
        kind: facts.kind.into(),
        namespaced: facts.namespaced,
        rules: Rules::builtin(facts.group, facts.name, has_status),
        strategy: strategies::strategy(facts.group, facts.name),
        schema: Some(facts.type_ref()),
        conversion: None,
        mixed: false,
        cache: cache.add(prefix, extractor).await?,
    })
}

fn is_metadata(field: &str) -> bool {
    matches!(field, "metadata.name" | "metadata.namespace")
}

/// The selectable fields that are read from the object, in the order of their slots.
fn stored_fields(group: &str, version: &str, resource: &str) -> Vec<&'static str> {
    let listed = selectable_fields(group, version, resource)
        .map(|fields| fields.fields.as_slice())
        .unwrap_or_default();
    listed.iter().copied().filter(|field| !is_metadata(field) && *field != "status.podIPs").collect()
}

/// Where a field's value is, which for a few is not where its name says.
fn field_path(facts: &resources::Resource, field: &'static str) -> &'static str {
    match (facts.name, field) {
        ("events", "source") => "source.component",
        ("jobs", "status.successful") => "status.succeeded",
        _ => field,
    }
}

/// What a selector sees where the object has nothing: Go's zero value as text.
fn absent(field: &str) -> &'static str {
    match field {
        "spec.hostNetwork" | "spec.unschedulable" => "false",
        "status.replicas" | "status.successful" => "0",
        _ => "",
    }
}

/// The names that a selector may use in this version, and the slots of the stored version they mean.
fn field_names(facts: &resources::Resource) -> FieldNames {
    let Some(listed) = selectable_fields(facts.group, facts.version, facts.name) else {
        return FieldNames::default();
    };
    let shared_events = facts.name == "events";
    let stored = if shared_events {
        stored_fields("", "v1", "events")
    } else {
        stored_fields(facts.group, facts.version, facts.name)
    };
    let source = |field: &str| {
        let canonical = canonical(listed, field);
        let slot = stored.iter().position(|known| *known == canonical);
        slot.map_or(FieldSource::Absent, FieldSource::Slot)
    };
    let own = listed.fields.iter().filter(|field| !is_metadata(field));
    let mut sources: Vec<(Name, FieldSource)> = own.map(|field| ((*field).into(), source(field))).collect();
    if facts.name == "pods" {
        sources.push(("spec.host".into(), source("spec.nodeName")));
    }
    FieldNames { sources }
}

fn canonical(listed: &SelectableFields, field: &str) -> String {
    if let Some(rest) = field.strip_prefix("regarding.") {
        return format!("involvedObject.{rest}");
    }
    match field {
        "reportingController" => "reportingComponent".to_owned(),
        _ => listed.canonical(field).to_owned(),
    }
}

fn subresources(extensions: &Extensions, facts: &'static resources::Resource) -> BTreeMap<Name, Subresource> {
    let strategy = strategies::strategy(facts.group, facts.name);
    let served = facts.subresources.iter().filter_map(|sub| {
        let serving = match sub.name {
            "status" => SubresourceServing::Status,
            "scale" => SubresourceServing::Scale(Arc::new(scale_paths())),
            name if strategy.subresource(name).is_some() => SubresourceServing::Object,
            name => {
                let key = (facts.name, name);
                let connect = extensions.connects.get(&key).cloned().map(SubresourceServing::Connect);
                connect.or_else(|| extensions.creates.get(&key).cloned().map(SubresourceServing::Create))?
            }
        };
        let (group, version) = sub.gv.unwrap_or((facts.group, facts.version));
        let verbs = sub.verbs.iter().map(|verb| Name::from(*verb)).collect();
        let (kind, group, version) = (sub.kind.into(), group.into(), version.into());
        Some((sub.name.into(), Subresource { kind, group, version, verbs, serving }))
    });
    served.collect()
}

/// The same for all built-in kinds that scale; a ReplicationController's selector is a plain map of labels.
fn scale_paths() -> ScalePaths {
    ScalePaths {
        spec_replicas: "spec.replicas".into(),
        status_replicas: "status.replicas".into(),
        selector: "spec.selector".into(),
    }
}
