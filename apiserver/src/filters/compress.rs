//! gzip of large answers, chunk by chunk, for clients that accept it.

use std::io::Write;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;

/// Smaller answers are not worth it.
const THRESHOLD: usize = 128 * 1024;

pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|encoding| encoding.split(';').next().unwrap_or_default().trim() == "gzip")
}

/// Compresses an answer that turns out to be large. Looks at no more of it than decides that.
pub async fn gzip(response: Response<Body>) -> Response<Body> {
    let small = response.body().size_hint().exact().is_some_and(|size| size < THRESHOLD as u64);
    if small || response.status() != StatusCode::OK || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let mut chunks = body.into_data_stream();
    let mut begin: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while size < THRESHOLD {
        match chunks.next().await {
            Some(Ok(chunk)) => {
                size += chunk.len();
                begin.push(chunk);
            }
            Some(Err(error)) => {
                let rest = stream::iter(begin.into_iter().map(Ok)).chain(stream::iter([Err(error)]));
                return Response::from_parts(parts, Body::from_stream(rest));
            }
            None => return Response::from_parts(parts, joined(begin)),
        }
    }
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(CONTENT_LENGTH);
    let all = stream::iter(begin.into_iter().map(Ok)).chain(chunks);
    Response::from_parts(parts, Body::from_stream(encode(all)))
}

fn joined(mut chunks: Vec<Bytes>) -> Body {
    match chunks.len() {
        0 => Body::empty(),
        1 => Body::from(chunks.remove(0)),
        _ => Body::from(chunks.concat()),
    }
}

/// Compresses as the chunks come. Level 1: a list must not become slower than the network it saves.
fn encode(
    chunks: impl stream::Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin + 'static,
) -> impl stream::Stream<Item = Result<Bytes, axum::Error>> + Send + 'static {
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    stream::unfold((chunks, encoder), |(mut chunks, encoder)| async move {
        let mut encoder = encoder?;
        loop {
            match chunks.next().await {
                Some(Ok(chunk)) => {
                    if let Err(error) = encoder.write_all(&chunk) {
                        return Some((Err(axum::Error::new(error)), (chunks, None)));
                    }
                    if !encoder.get_ref().is_empty() {
                        let ready = std::mem::take(encoder.get_mut());
                        return Some((Ok(ready.into()), (chunks, Some(encoder))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), (chunks, None))),
                None => {
                    let end = encoder.finish().map(Bytes::from).map_err(axum::Error::new);
                    return Some((end, (chunks, None)));
                }
            }
        }
    })
}
