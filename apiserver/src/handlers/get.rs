//! GET of one object.

use axum::body::Body;
use http::{Response, StatusCode};
use knarr_api::status::Status;

use super::options::parse_version;
use super::{Call, of_object, respond};
use crate::registry::invalid;

pub async fn get(call: Call) -> Result<Response<Body>, Status> {
    let cx = &call.cx;
    let output = call.output(of_object)?;
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    let version = cx.param("resourceVersion").unwrap_or_default();
    let found = match version {
        // Without a resourceVersion a read is of the newest state.
        "" => cx.registry.get(storage, cx.namespace(), cx.name()).await?,
        text => match parse_version(text) {
            Ok(revision) => cx.registry.get_not_older(storage, cx.namespace(), cx.name(), revision).await?,
            Err(error) => {
                invalid(&cx.info.group, &cx.info.resource, cx.name(), error.into())?;
                None
            }
        },
    };
    let stored = found.ok_or_else(|| cx.not_found(cx.name()))?;
    respond::stored(cx, StatusCode::OK, &output, &stored).await
}
