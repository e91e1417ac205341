//! The options of a request, read from its query as upstream's parameter codec does.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::selector::{FieldSelector, Selector};
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::served_fields::ServedFields;
use crate::cache::{FieldSource, FieldTerm, Selection};
use crate::context::RequestContext;
use crate::registry::invalid;

/// `metav1.ListOptions`.
#[derive(Debug, Clone)]
pub struct ListOptions {
    pub selection: Selection,
    /// What more is wanted, and is seen only in the objects as they are served.
    pub served_fields: ServedFields,
    pub watch: bool,
    pub bookmarks: bool,
    /// As sent; empty when unset.
    pub resource_version: String,
    pub version_match: String,
    pub timeout: Option<u64>,
    pub limit: usize,
    pub continue_token: String,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks the options of a list, watch or deletecollection.
    pub fn parse(cx: &RequestContext, watch: bool) -> Result<Self, Status> {
        let limit = number(cx, "limit")?.unwrap_or_default();
        let (selection, served_fields) = selection(cx)?;
        let options = Self {
            selection,
            served_fields,
            watch,
            bookmarks: flag(cx, "allowWatchBookmarks").unwrap_or_default(),
            resource_version: cx.param("resourceVersion").unwrap_or_default().to_owned(),
            version_match: cx.param("resourceVersionMatch").unwrap_or_default().to_owned(),
            timeout: number(cx, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok()),
            limit: usize::try_from(limit).unwrap_or_default(),
            continue_token: cx.param("continue").unwrap_or_default().to_owned(),
            send_initial_events: flag(cx, "sendInitialEvents"),
        };
        invalid("meta.k8s.io", "ListOptions", "", options.validate())?;
        Ok(options)
    }

    fn validate(&self) -> ErrorList {
        let path = Path::new("resourceVersionMatch");
        let forbid = |path: &Path, why: &str| Error::forbidden(path, why);
        let mut errors = ErrorList::new();
        let matching = self.version_match.as_str();
        if self.watch {
            if self.send_initial_events.is_some() && matching != "NotOlderThan" {
                errors.push(forbid(
                    &path,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            if !matching.is_empty() {
                if self.send_initial_events.is_none() {
                    let why =
                        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                    errors.push(forbid(&path, why));
                }
                if matching != "NotOlderThan" {
                    errors.push(Error::not_supported(&path, matching, &["NotOlderThan"]));
                }
                if !self.continue_token.is_empty() {
                    errors.push(forbid(&path, "resourceVersionMatch is forbidden when continue is provided"));
                }
            }
            return errors;
        }
        if !matching.is_empty() {
            if self.resource_version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(forbid(&path, why));
            }
            if !self.continue_token.is_empty() {
                errors.push(forbid(&path, "resourceVersionMatch is forbidden when continue is provided"));
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                errors.push(Error::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
            }
            if matching == "Exact" && self.resource_version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(forbid(&path, why));
            }
        }
        if self.send_initial_events.is_some() {
            let path = Path::new("sendInitialEvents");
            errors.push(forbid(&path, "sendInitialEvents is forbidden for list"));
        }
        errors
    }
}

/// The options of a create, update or patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    /// Of a patch.
    pub force: Option<bool>,
}

/// What happens to unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl WriteOptions {
    /// `kind` is CreateOptions, UpdateOptions or PatchOptions.
    pub fn parse(cx: &RequestContext, kind: &str, apply: bool) -> Result<Self, Status> {
        let dry_run: Vec<&str> = cx.params("dryRun").collect();
        let field_manager = cx.param("fieldManager").unwrap_or_default().to_owned();
        let field_validation = cx.param("fieldValidation").unwrap_or_default();
        let force = flag(cx, "force").filter(|_| kind == "PatchOptions");
        let mut errors = ErrorList::new();
        if apply && field_manager.is_empty() {
            errors.push(Error::required(&Path::new("fieldManager"), "is required for apply patch"));
        }
        if !apply && force.is_some() {
            errors.push(Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        }
        errors.extend(validate_manager(&field_manager, &Path::new("fieldManager")));
        if dry_run.iter().any(|value| *value != "All") {
            let given: Vec<String> = dry_run.iter().map(|v| (*v).to_owned()).collect();
            errors.push(Error::not_supported(&Path::new("dryRun"), given, &["All"]));
        }
        if !matches!(field_validation, "" | "Ignore" | "Warn" | "Strict") {
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.push(Error::not_supported(&Path::new("fieldValidation"), field_validation, &supported));
        }
        invalid("meta.k8s.io", kind, "", errors)?;
        let field_validation = match field_validation {
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            _ => FieldValidation::Warn,
        };
        Ok(Self { dry_run: !dry_run.is_empty(), field_manager, field_validation, force })
    }

    /// For admission.
    pub fn to_value(&self, kind: &str) -> Value {
        let mut value = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        if !self.field_manager.is_empty() {
            value["fieldManager"] = self.field_manager.as_str().into();
        }
        if let Some(force) = self.force {
            value["force"] = force.into();
        }
        value
    }
}

fn validate_manager(manager: &str, path: &Path) -> ErrorList {
    const MAX: usize = 128;
    let mut errors = ErrorList::new();
    if manager.len() > MAX {
        errors.push(Error::too_long(path, MAX));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(Error::invalid(path, manager, detail));
    }
    errors
}

/// A boolean as Go's query conversion reads it: present means true unless it says otherwise.
pub fn flag(cx: &RequestContext, name: &str) -> Option<bool> {
    cx.param(name).map(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
}

pub fn number(cx: &RequestContext, name: &str) -> Result<Option<i64>, Status> {
    let Some(text) = cx.param(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}

/// Reads a resourceVersion; 0 when it is unset.
pub fn parse_version(text: &str) -> Result<u64, Error> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Error::invalid(&Path::new("resourceVersion"), text, detail)
    })
}

/// What a list, watch or deletecollection is about.
fn selection(cx: &RequestContext) -> Result<(Selection, ServedFields), Status> {
    let labels: Selector = match cx.param("labelSelector") {
        None => Selector::everything(),
        Some(text) => text
            .parse()
            .map_err(|e: knarr_api::selector::SelectorError| Status::bad_request(e.to_string()))?,
    };
    let mut selection = Selection {
        namespace: cx.namespace().into(),
        name: cx.name().into(),
        cluster_scoped: !cx.resource.namespaced,
        labels,
        fields: Vec::new(),
    };
    let mut served_fields = ServedFields::default();
    if let Some(text) = cx.param("fieldSelector") {
        select_fields(cx, text, &mut selection, &mut served_fields)?;
    }
    Ok((selection, served_fields))
}

fn select_fields(
    cx: &RequestContext,
    text: &str,
    selection: &mut Selection,
    served_fields: &mut ServedFields,
) -> Result<(), Status> {
    let after_conversion = ServedFields::are_needed(&cx.resource);
    let selector: FieldSelector = text
        .parse()
        .map_err(|e: knarr_api::selector::FieldSelectorError| Status::bad_request(e.to_string()))?;
    for term in selector.terms() {
        let source = match term.field.as_str() {
            "metadata.name" => FieldSource::Name,
            "metadata.namespace" => FieldSource::Namespace,
            field => cx.resource.fields.source(field).ok_or_else(|| unknown_field(cx, field))?,
        };
        if source == FieldSource::Name && !term.negated && selection.name.is_empty() && !term.value.is_empty()
        {
            selection.name = term.value.as_str().into();
            continue;
        }
        if after_conversion && matches!(source, FieldSource::Slot(_)) {
            served_fields.push(&term.field, !term.negated, &term.value);
            continue;
        }
        selection.fields.push(FieldTerm { source, equals: !term.negated, value: term.value.as_str().into() });
    }
    Ok(())
}

fn unknown_field(cx: &RequestContext, field: &str) -> Status {
    if cx.resource.fields.sources.is_empty() && cx.resource.bare_items {
        return Status::bad_request(format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ));
    }
    Status::bad_request(format!("field label not supported: {field}"))
}
