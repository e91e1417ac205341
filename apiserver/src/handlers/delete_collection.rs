//! DELETE of everything that a selection wants.

use axum::body::Body;
use http::{Response, StatusCode};
use knarr_api::status::{Status, reason};

use super::delete::read_options;
use super::options::ListOptions;
use super::{Call, list, of_list};

pub async fn delete_collection(mut call: Call) -> Result<Response<Body>, Status> {
    let output = call.output(of_list)?;
    let bytes = call.body().await?;
    let options = read_options(&call.cx, &call.headers, &bytes)?;
    call.cx.dry_run = options.is_dry_run();
    let cx = &call.cx;
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    let wanted = ListOptions::parse(cx, false)?;
    let listed = list::page(cx, storage, &wanted).await?;
    for entry in &listed.page.entries {
        let mut one = cx.clone();
        entry.namespace().clone_into(&mut std::sync::Arc::make_mut(&mut one.info).namespace);
        match cx.registry.delete(&one, storage, entry.name(), &options).await {
            Ok(_) => {}
            // Someone else deleted it, which is what was asked for.
            Err(status) if status.is(reason::NOT_FOUND) => {}
            Err(status) => return Err(status),
        }
    }
    list::answer(cx, StatusCode::OK, &output, listed).await
}
