//! GET of a collection: stored bytes, coalesced into chunks, never the whole answer at once.

use std::sync::Arc;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{Response, StatusCode};
use knarr_api::status::Status;
use serde_json::{Map, Value, json};

use super::negotiate::{JSON, Output, Shape};
use super::options::{ListOptions, parse_version};
use super::{Call, of_list, respond, table};
use crate::cache::Entry;
use crate::catalogue::Storage;
use crate::context::RequestContext;
use crate::conversion;
use crate::registry::{Continue, ListPage, ListRequest, VersionMatch};

/// How many bytes of an answer are put together before they are sent.
const CHUNK: usize = 64 * 1024;
/// How many objects are at least looked at together where a page is made of those that match.
const SIFTED: usize = 500;

pub async fn list(call: Call) -> Result<Response<Body>, Status> {
    let cx = &call.cx;
    let output = call.output(of_list)?;
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    let options = ListOptions::parse(cx, false)?;
    let listed = page(cx, storage, &options).await?;
    answer(cx, StatusCode::OK, &output, listed).await
}

/// The page that the options ask for.
pub async fn page(cx: &RequestContext, storage: &Storage, options: &ListOptions) -> Result<Listed, Status> {
    let revision = parse_version(&options.resource_version)
        .map_err(|error| Status::bad_request(format!("invalid resource version: {error}")))?;
    let continue_from = match options.continue_token.as_str() {
        "" => None,
        _ if !options.resource_version.is_empty() && revision != 0 => {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        token => Some(Continue::decode(token)?),
    };
    let version = match (options.resource_version.as_str(), options.version_match.as_str()) {
        ("", _) => VersionMatch::Latest,
        ("0", _) => VersionMatch::Any,
        (_, "Exact") => VersionMatch::Exact(revision),
        // A page of an exact age is what a limit meant before the match could be said.
        (_, "") if options.limit > 0 => VersionMatch::Exact(revision),
        _ => VersionMatch::NotOlderThan(revision),
    };
    // A list that may be of any age is answered whole, as upstream's cache does.
    let whole = version == VersionMatch::Any && continue_from.is_none();
    let limit = if whole { 0 } else { options.limit };
    let mut request = ListRequest { selection: &options.selection, version, limit, continue_from };
    let fields = &options.served_fields;
    if fields.is_empty() {
        return Ok(Listed { page: cx.registry.list(storage, &request).await?, served: None });
    }
    let (mut entries, mut served) = (Vec::new(), Vec::new());
    // Few of the objects may match: the webhook is asked for many at once.
    request.limit = if limit > 0 { limit.max(SIFTED) } else { 0 };
    loop {
        let page = cx.registry.list(storage, &request).await?;
        let objects = served_form(cx, &page.entries).await?;
        for (entry, object) in page.entries.into_iter().zip(objects) {
            if fields.match_object(&object)? {
                entries.push(entry);
                served.push(object);
            }
        }
        let page = ListPage { entries, remaining: None, ..page }.cut(storage, limit);
        // What was sorted out leaves room on the page.
        let more = page.continue_token.as_deref().filter(|_| page.entries.len() < limit);
        let Some(from) = more.map(Continue::decode).transpose()? else {
            served.truncate(page.entries.len());
            return Ok(Listed { page, served: Some(served) });
        };
        request.continue_from = Some(from);
        entries = page.entries;
    }
}

/// A page, and its objects as they are served where they had to be looked at.
pub struct Listed {
    pub page: ListPage,
    served: Option<Vec<Value>>,
}

async fn served_form(cx: &RequestContext, entries: &[Arc<Entry>]) -> Result<Vec<Value>, Status> {
    let objects = entries.iter().map(|entry| entry.stored.to_value().map_err(Status::internal));
    conversion::all_to_served(&cx.resource, objects.collect::<Result<_, _>>()?).await
}

/// Writes a page in the form asked for.
pub async fn answer(
    cx: &RequestContext,
    code: StatusCode,
    output: &Output,
    Listed { page, served }: Listed,
) -> Result<Response<Body>, Status> {
    let metadata = list_metadata(&page);
    if output.is_stored_form() && respond::is_storage_version(&cx.resource) {
        let head = json!({"kind": cx.resource.list_kind, "apiVersion": cx.resource.api_version(), "metadata": metadata});
        return Ok(respond::response(code, JSON, stream_items(&head, page.entries, cx.resource.bare_items)));
    }
    let items = match served {
        Some(items) => items,
        None => served_form(cx, &page.entries).await?,
    };
    let list = match output.shape {
        Shape::Full => whole(cx, metadata, items),
        Shape::Partial | Shape::PartialList => {
            let items: Vec<Value> =
                items.into_iter().map(|o| respond::partial(o, output.meta_version)).collect();
            let api_version = format!("meta.k8s.io/{}", output.meta_version);
            json!({"kind": "PartialObjectMetadataList", "apiVersion": api_version, "metadata": metadata, "items": items})
        }
        Shape::Table => {
            let objects: Vec<&Value> = items.iter().collect();
            table::of(cx, output, &metadata, &objects, true)?
        }
    };
    respond::value(code, output, &list)
}

fn whole(cx: &RequestContext, metadata: Value, mut items: Vec<Value>) -> Value {
    if cx.resource.bare_items {
        for fields in items.iter_mut().filter_map(Value::as_object_mut) {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
    }
    json!({
        "kind": cx.resource.list_kind,
        "apiVersion": cx.resource.api_version(),
        "metadata": metadata,
        "items": items,
    })
}

fn list_metadata(page: &ListPage) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), page.revision.to_string().into());
    if let Some(token) = &page.continue_token {
        metadata.insert("continue".into(), token.as_str().into());
    }
    if let Some(remaining) = page.remaining {
        metadata.insert("remainingItemCount".into(), remaining.into());
    }
    Value::Object(metadata)
}

/// The list as a stream of chunks, each copied together from stored bytes when the one before is on its way.
fn stream_items(head: &Value, entries: Vec<Arc<Entry>>, bare: bool) -> Body {
    let mut begin = BytesMut::new();
    let head = head.to_string();
    begin.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
    begin.extend_from_slice(b",\"items\":[");
    let state = Some((begin, entries.into_iter().peekable(), true));
    let chunks = stream::unfold(state, move |state| async move {
        let (mut chunk, mut entries, mut first) = state?;
        while chunk.len() < CHUNK {
            let Some(entry) = entries.next() else {
                chunk.extend_from_slice(b"]}\n");
                return Some((Ok::<Bytes, std::convert::Infallible>(chunk.freeze()), None));
            };
            if !first {
                chunk.put_u8(b',');
            }
            first = false;
            if bare { entry.stored.write_item(&mut chunk) } else { entry.stored.write(&mut chunk) }
        }
        let next = (BytesMut::with_capacity(CHUNK + CHUNK / 4), entries, false);
        Some((Ok(chunk.freeze()), Some(next)))
    });
    Body::from_stream(chunks)
}
