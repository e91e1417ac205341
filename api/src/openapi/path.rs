//! The paths of a resource and the operations on each.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Version;
use super::definition::{PATCH, capitalized};
use super::descriptions::Descriptions;
use super::operation::{self, Answer, Body, Operation};
use super::parameter::{self, Parameter};
use super::resource::{Definition, Resource, Subresource};
use crate::gvk::GroupVersionKind;
use crate::schema;

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
const API_RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";

/// Definitions that paths refer to beside those of the resources.
pub(super) const SHARED: &[&str] = &[STATUS, DELETE_OPTIONS, WATCH_EVENT, API_RESOURCE_LIST, PATCH];

/// Operations by method, by path.
pub(super) type Paths = BTreeMap<String, BTreeMap<&'static str, Operation>>;

/// Where the group version's resources lie: `/api/v1`, `/apis/apps/v1`.
pub(super) fn base(kind: &GroupVersionKind) -> String {
    let prefix = if kind.group.is_empty() { "/api" } else { "/apis" };
    format!("{prefix}/{}", kind.group_version())
}

pub(super) fn render(operations: &BTreeMap<&'static str, Operation>, version: Version) -> Value {
    let mut shared = match operations.values().next() {
        Some(first) => first.parameters.clone(),
        None => Vec::new(),
    };
    shared.retain(|parameter| operations.values().all(|operation| operation.parameters.contains(parameter)));
    let mut item: Map<String, Value> = operations
        .iter()
        .map(|(method, operation)| ((*method).to_owned(), operation.render(version, &shared)))
        .collect();
    if !shared.is_empty() {
        shared.sort_by(|a, b| a.order().cmp(&b.order()));
        item.insert(
            "parameters".to_owned(),
            shared.iter().map(|parameter| parameter.render(version)).collect(),
        );
    }
    Value::Object(item)
}

/// The path of a group version's discovery.
pub(super) fn discovery(kind: &GroupVersionKind, paths: &mut Paths) {
    let gv = kind.group_version();
    let operation = Operation {
        id: format!("get{}APIResources", operation::infix(&gv)),
        description: "get available resources".to_owned(),
        tag: operation::tag(&gv),
        action: None,
        kind: None,
        parameters: Vec::new(),
        body: None,
        codes: operation::OK,
        answer: Answer::Definition(API_RESOURCE_LIST.to_owned()),
        produces: operation::OBJECTS,
    };
    paths.entry(format!("{}/", base(kind))).or_default().insert("get", operation);
}

/// Adds all paths of a resource.
pub(super) fn of_resource(resource: &Resource, texts: &Descriptions, paths: &mut Paths) {
    let maker = Maker::new(resource);
    maker.collection(paths);
    maker.object(paths);
    maker.watches(paths);
    for subresource in &resource.subresources {
        maker.subresource(subresource, texts, paths);
    }
}

struct Maker<'a> {
    resource: &'a Resource,
    /// `/api/v1`
    base: String,
    /// `CoreV1`
    infix: String,
    tag: String,
    /// `Namespaced` or nothing
    scope: &'static str,
    custom: bool,
}

impl<'a> Maker<'a> {
    fn new(resource: &'a Resource) -> Self {
        let gv = resource.kind.group_version();
        Self {
            resource,
            base: base(&resource.kind),
            infix: operation::infix(&gv),
            tag: operation::tag(&gv),
            scope: if resource.namespaced { "Namespaced" } else { "" },
            custom: !matches!(resource.definition, Definition::Builtin(_)),
        }
    }

    fn has(&self, verb: &str) -> bool {
        self.resource.verbs.iter().any(|known| known == verb)
    }

    /// `/api/v1/namespaces/{namespace}/pods`
    fn collection_path(&self, prefix: &str) -> String {
        let scope = if self.resource.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{prefix}{scope}/{}", self.base, self.resource.name)
    }

    fn scope_parameters(&self) -> Vec<Parameter> {
        let mut parameters = vec![parameter::pretty()];
        parameters.extend(self.resource.namespaced.then(parameter::namespace));
        parameters
    }

    fn object_parameters(&self, kind: &str) -> Vec<Parameter> {
        let mut parameters = self.scope_parameters();
        parameters.push(parameter::name(kind));
        parameters
    }

    fn operation(&self, id: String, description: String, action: &'static str) -> Operation {
        Operation {
            id,
            description,
            tag: self.tag.clone(),
            action: Some(action),
            kind: Some(self.resource.kind.clone()),
            parameters: Vec::new(),
            body: None,
            codes: operation::OK,
            answer: Answer::Definition(self.resource.definition.name().into_owned()),
            produces: if self.custom { operation::CUSTOM_OBJECTS } else { operation::OBJECTS },
        }
    }

    fn streams(&self) -> &'static [&'static str] {
        if self.custom { operation::CUSTOM_OBJECTS } else { operation::STREAMS }
    }

    fn collection(&self, paths: &mut Paths) {
        let (kind, infix, scope) = (&self.resource.kind.kind, &self.infix, self.scope);
        let path = self.collection_path("");
        let with = |mut parameters: Vec<Parameter>| {
            parameters.extend(self.scope_parameters());
            parameters
        };
        if self.has("list") {
            let id = format!("list{infix}{scope}{kind}");
            let mut list = self.operation(id, format!("list or watch objects of kind {kind}"), "list");
            list.parameters = with(parameter::list());
            list.answer = Answer::Definition(self.resource.list.name().into_owned());
            list.produces = self.streams();
            if self.resource.namespaced {
                let mut everywhere = list.clone();
                everywhere.id = format!("list{infix}{kind}ForAllNamespaces");
                everywhere.parameters.retain(|parameter| *parameter != parameter::namespace());
                paths
                    .entry(format!("{}/{}", self.base, self.resource.name))
                    .or_default()
                    .insert("get", everywhere);
            }
            paths.entry(path.clone()).or_default().insert("get", list);
        }
        if self.has("create") {
            let mut create = self.operation(
                format!("create{infix}{scope}{kind}"),
                format!("create {} {kind}", article(kind)),
                "post",
            );
            create.parameters = with(parameter::write());
            create.body = Some(self.body(&self.resource.definition));
            create.codes = operation::CREATED;
            paths.entry(path.clone()).or_default().insert("post", create);
        }
        if self.has("deletecollection") {
            let id = format!("delete{infix}Collection{scope}{kind}");
            let mut delete = self.operation(id, format!("delete collection of {kind}"), "deletecollection");
            delete.parameters = with(parameter::selection().into_iter().chain(parameter::delete()).collect());
            delete.body = Some(delete_body());
            delete.answer = Answer::Definition(STATUS.to_owned());
            paths.entry(path).or_default().insert("delete", delete);
        }
    }

    fn body(&self, definition: &Definition) -> Body {
        let consumes = if self.custom { operation::CUSTOM_OBJECTS } else { operation::ANYTHING };
        Body { definition: definition.name().into_owned(), required: true, consumes }
    }

    fn object(&self, paths: &mut Paths) {
        let (kind, infix, scope) = (&self.resource.kind.kind, &self.infix, self.scope);
        let path = self.collection_path("") + "/{name}";
        if self.has("delete") {
            let id = format!("delete{infix}{scope}{kind}");
            let mut delete = self.operation(id, format!("delete {} {kind}", article(kind)), "delete");
            delete.parameters = self.object_parameters(kind);
            delete.parameters.extend(parameter::delete());
            delete.body = Some(delete_body());
            delete.codes = operation::DELETED;
            if !deletion_answers_with_object(&self.resource.kind.group, &self.resource.name) {
                delete.answer = Answer::Definition(STATUS.to_owned());
            }
            paths.entry(path.clone()).or_default().insert("delete", delete);
        }
        self.read_and_write(
            &path,
            &format!("{scope}{kind}"),
            kind,
            "the specified",
            &self.resource.verbs,
            paths,
        );
    }

    /// get, put and patch of an object, or of a part of it that has the object's form.
    fn read_and_write(
        &self,
        path: &str,
        suffix: &str,
        kind: &str,
        what: &str,
        verbs: &[crate::gvk::Name],
        paths: &mut Paths,
    ) {
        let has = |wanted: &str| verbs.iter().any(|verb| verb == wanted);
        let infix = &self.infix;
        let operations = paths.entry(path.to_owned()).or_default();
        if has("get") {
            let mut get =
                self.operation(format!("read{infix}{suffix}"), format!("read {what} {kind}"), "get");
            get.parameters = self.object_parameters(kind);
            operations.insert("get", get);
        }
        if has("update") {
            let id = format!("replace{infix}{suffix}");
            let mut put = self.operation(id, format!("replace {what} {kind}"), "put");
            put.parameters = self.object_parameters(kind);
            put.parameters.extend(parameter::write());
            put.body = Some(self.body(&self.resource.definition));
            put.codes = operation::WRITTEN;
            operations.insert("put", put);
        }
        if has("patch") {
            let id = format!("patch{infix}{suffix}");
            let mut patch = self.operation(id, format!("partially update {what} {kind}"), "patch");
            patch.parameters = self.object_parameters(kind);
            patch.parameters.extend(parameter::patch());
            let consumes = if self.custom { operation::CUSTOM_PATCHES } else { operation::PATCHES };
            patch.body = Some(Body { definition: PATCH.to_owned(), required: true, consumes });
            patch.codes = operation::WRITTEN;
            operations.insert("patch", patch);
        }
        if operations.is_empty() {
            paths.remove(path);
        }
    }

    /// The deprecated paths that watch. Custom resources never had them.
    fn watches(&self, paths: &mut Paths) {
        if !self.has("watch") || self.custom {
            return;
        }
        let (kind, infix, scope) = (&self.resource.kind.kind, &self.infix, self.scope);
        let hint = "deprecated: use the 'watch' parameter with a list operation instead";
        let watch = |id: String, description: String, action, parameters: Vec<Parameter>| {
            let mut watch = self.operation(id, description, action);
            watch.parameters = parameter::list().into_iter().chain(parameters).collect();
            watch.answer = Answer::Definition(WATCH_EVENT.to_owned());
            watch.produces = operation::STREAMS;
            watch
        };
        let one = format!(
            "watch changes to an object of kind {kind}. {hint}, filtered to a single item with the 'fieldSelector' parameter."
        );
        let all = format!("watch individual changes to a list of {kind}. {hint}.");
        let collection = self.collection_path("/watch");
        if self.has("get") {
            let id = format!("watch{infix}{scope}{kind}");
            let one = watch(id, one, "watch", self.object_parameters(kind));
            paths.entry(format!("{collection}/{{name}}")).or_default().insert("get", one);
        }
        let id = format!("watch{infix}{scope}{kind}List");
        let list = watch(id, all.clone(), "watchlist", self.scope_parameters());
        paths.entry(collection).or_default().insert("get", list);
        if self.resource.namespaced {
            let path = format!("{}/watch/{}", self.base, self.resource.name);
            let id = format!("watch{infix}{kind}ListForAllNamespaces");
            let list = watch(id, all, "watchlist", vec![parameter::pretty()]);
            paths.entry(path).or_default().insert("get", list);
        }
    }

    fn subresource(&self, sub: &Subresource, texts: &Descriptions, paths: &mut Paths) {
        let kind = &self.resource.kind.kind;
        let path = format!("{}/{{name}}/{}", self.collection_path(""), sub.name);
        let suffix = format!("{}{kind}{}", self.scope, capitalized(&sub.name));
        if sub.kind.kind.ends_with("Options") {
            return self.connection(sub, texts, &path, &suffix, paths);
        }
        let what = match sub.name.as_ref() {
            "log" => "log of the specified".to_owned(),
            name => format!("{name} of the specified"),
        };
        self.read_and_write(&path, &suffix, kind, &what, &sub.verbs, paths);
        let operations = paths.entry(path).or_default();
        for operation in operations.values_mut() {
            operation.kind = Some(sub.kind.clone());
            let name = sub.definition.name();
            operation.answer = Answer::Definition(name.to_string());
            if let Some(body) = operation.body.as_mut().filter(|body| body.definition != PATCH) {
                body.definition = name.to_string();
            }
        }
        if sub.verbs.iter().any(|verb| verb == "create") {
            let id = format!("create{}{suffix}", self.infix);
            let description = format!("create {} of {} {kind}", sub.name, article(kind));
            let mut create = self.operation(id, description, "post");
            create.parameters = self.object_parameters(&sub.kind.kind);
            create.parameters.extend(parameter::write());
            create.kind = Some(sub.kind.clone());
            create.body = Some(self.body(&sub.definition));
            create.answer = Answer::Definition(sub.definition.name().into_owned());
            create.codes = operation::CREATED;
            operations.insert("post", create);
        }
        if sub.name == "log"
            && let (Some(get), Some(options)) =
                (operations.get_mut("get"), schema::by_gvk("", "v1", "PodLogOptions"))
        {
            let text = texts.of(&options.name);
            let text = |field: &str| text.get(field).map(String::as_str);
            get.parameters.extend(parameter::options(&options, &text));
            get.answer = Answer::Text;
            get.produces = operation::PLAIN_TEXT;
        }
    }

    /// Streams and proxies, whose options stand in the query.
    fn connection(
        &self,
        sub: &Subresource,
        texts: &Descriptions,
        path: &str,
        suffix: &str,
        paths: &mut Paths,
    ) {
        let Definition::Builtin(options) = &sub.definition else { return };
        let kind = &self.resource.kind.kind;
        let text = texts.of(&options.name);
        let text = |field: &str| text.get(field).map(String::as_str);
        let is_proxy = sub.name == "proxy";
        let methods: &[&'static str] = if is_proxy {
            &["get", "put", "post", "delete", "options", "head", "patch"]
        } else {
            &["get", "post"]
        };
        let mut parameters = self.object_parameters(&sub.kind.kind);
        parameters.retain(|parameter| *parameter != parameter::pretty());
        parameters.extend(parameter::options(options, &text));
        let mut add = |path: &str, suffix: &str, parameters: &[Parameter]| {
            for method in methods {
                let id = format!("connect{}{}{suffix}", self.infix, capitalized(method));
                let description =
                    format!("connect {} requests to {} of {kind}", method.to_uppercase(), sub.name);
                let mut connect = self.operation(id, description, "connect");
                connect.kind = Some(sub.kind.clone());
                connect.parameters = parameters.to_vec();
                connect.answer = Answer::Text;
                connect.produces = operation::ANYTHING;
                paths.entry(path.to_owned()).or_default().insert(method, connect);
            }
        };
        add(path, suffix, &parameters);
        if is_proxy {
            parameters.push(Parameter::path("path", "path to the resource"));
            add(&format!("{path}/{{path}}"), &format!("{suffix}WithPath"), &parameters);
        }
    }
}

fn delete_body() -> Body {
    Body { definition: DELETE_OPTIONS.to_owned(), required: false, consumes: operation::ANYTHING }
}

/// Deleting most objects answers with a Status, deleting these with the object.
fn deletion_answers_with_object(group: &str, resource: &str) -> bool {
    match group {
        "" => matches!(
            resource,
            "pods"
                | "services"
                | "persistentvolumeclaims"
                | "persistentvolumes"
                | "podtemplates"
                | "resourcequotas"
                | "serviceaccounts"
        ),
        "storage.k8s.io" => resource != "csistoragecapacities",
        "resource.k8s.io" => true,
        _ => false,
    }
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" }
}
