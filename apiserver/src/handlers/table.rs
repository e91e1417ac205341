//! Objects as `meta.k8s.io` Tables, which is what people look at.

use knarr_api::field::{Error, Path};
use knarr_api::status::Status;
use knarr_api::table::{IncludeObject, Table};
use serde_json::Value;

use super::negotiate::Output;
use crate::context::RequestContext;
use crate::registry::invalid;

/// `?includeObject=`
pub fn include(cx: &RequestContext) -> Result<IncludeObject, Status> {
    match cx.param("includeObject").unwrap_or_default() {
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "Object" => Ok(IncludeObject::Object),
        "None" => Ok(IncludeObject::None),
        other => {
            let detail = "must be 'Metadata', 'Object', 'None', or empty";
            let error = Error::invalid(&Path::new("includeObject"), other, detail);
            invalid("meta.k8s.io", "TableOptions", "", error.into())?;
            Ok(IncludeObject::Metadata)
        }
    }
}

/// The table of these objects, under the list's metadata. Later events of a watch have no head.
pub fn of(
    cx: &RequestContext,
    output: &Output,
    metadata: &Value,
    objects: &[&Value],
    with_head: bool,
) -> Result<Value, Status> {
    let include = include(cx)?;
    let printer = &cx.resource.printer;
    let rows = printer.rows(objects, include, cx.registry.clock.now());
    let table = Table::new(metadata, with_head.then(|| printer.columns()), rows);
    let table = if output.meta_version == "v1beta1" { table.v1beta1() } else { table };
    serde_json::to_value(&table).map_err(Status::internal)
}

/// The table of one object, under its own resourceVersion.
pub fn of_object(
    cx: &RequestContext,
    output: &Output,
    object: &Value,
    with_head: bool,
) -> Result<Value, Status> {
    let version = object.pointer("/metadata/resourceVersion").cloned().unwrap_or_else(|| "".into());
    of(cx, output, &serde_json::json!({"resourceVersion": version}), &[object], with_head)
}
