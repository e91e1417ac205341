//! Which part of an object a request writes.

use crate::catalogue::SubresourceServing;
use crate::context::RequestContext;
use crate::registry::Part;

/// The part that the request's subresource stands for.
pub fn part(cx: &RequestContext) -> Part<'_> {
    match cx.resource.subresources.get(&*cx.info.subresource).map(|subresource| &subresource.serving) {
        None => Part::Main,
        Some(SubresourceServing::Status) => Part::Status,
        Some(_) => Part::Subresource(&cx.info.subresource),
    }
}
