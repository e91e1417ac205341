//! Watches: events as they happen, everything pending in one write, each encoded once for all its watchers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{Response, StatusCode};
use knarr_api::decode::Format;
use knarr_api::status::Status;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::negotiate::{JSON, Output, Shape};
use super::options::{ListOptions, parse_version};
use super::{Call, of_object, protobuf, respond, table};
use crate::cache::{Delivery, EventType, Snapshot, Subscription};
use crate::catalogue::Storage;
use crate::context::RequestContext;
use crate::conversion;
use crate::registry::invalid;
use crate::stored::Stored;

/// Watches without a timeout of their own end after this long, plus up to as much again.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
/// How many events go out in one write at most.
const BATCH: usize = 256;

pub async fn watch(call: Call) -> Result<Response<Body>, Status> {
    let cx = &call.cx;
    let mut output = call.output(of_object)?;
    output.pretty = false;
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    let options = ListOptions::parse(cx, true)?;
    let content_type = match output.format {
        Format::Json => JSON,
        Format::Yaml => "application/yaml;stream=watch",
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    };
    let started = start(cx, storage, &options).await;
    let body = match started {
        Ok(watcher) => watcher.into_body(cx, output, &options).await,
        // Too old a version is told in the stream, as upstream's watch cache does.
        Err(status) if status.code == 410 => Body::from(error_event(&status)),
        Err(status) => return Err(status),
    };
    Ok(respond::response(StatusCode::OK, content_type, body))
}

/// A watch that is about to be sent.
struct Watcher {
    /// What there was at the start, if that is wanted.
    initial: Option<Snapshot>,
    /// Whether the end of the initial events is marked.
    marks_end: bool,
    known: Vec<Delivery>,
    subscription: Subscription,
}

async fn start(cx: &RequestContext, storage: &Storage, options: &ListOptions) -> Result<Watcher, Status> {
    let revision = parse_version(&options.resource_version);
    let revision = match revision {
        Ok(revision) => revision,
        Err(error) => {
            invalid(&cx.info.group, &cx.info.resource, "", error.into())?;
            0
        }
    };
    let selection = Arc::new(options.selection.clone());
    let wants_state = options.send_initial_events.unwrap_or(revision == 0);
    if !wants_state {
        let after = match options.resource_version.as_str() {
            "" | "0" => cx.registry.catch_up().await?,
            _ => revision,
        };
        let (known, subscription) = storage
            .cache
            .watch_after(selection, after, options.bookmarks)
            .map_err(|error| Status::expired(error.to_string()))?;
        return Ok(Watcher { initial: None, marks_end: false, known, subscription });
    }
    let now = match options.resource_version.as_str() {
        "" => cx.registry.catch_up().await?,
        "0" => cx.registry.cache.revision(),
        _ => {
            let waited = cx.registry.cache.wait_for(revision).await;
            waited.map_err(|behind| Status::resource_version_too_large(behind.wanted, behind.current, 1))?;
            cx.registry.cache.revision()
        }
    };
    let (snapshot, subscription) = storage.cache.watch_from_now(selection, now, options.bookmarks);
    let marks_end = options.send_initial_events == Some(true) && options.bookmarks;
    Ok(Watcher { initial: Some(snapshot), marks_end, known: Vec::new(), subscription })
}

impl Watcher {
    async fn into_body(self, cx: &RequestContext, output: Output, options: &ListOptions) -> Body {
        let timeout = options.timeout.filter(|seconds| *seconds > 0).map_or_else(
            || MIN_TIMEOUT + MIN_TIMEOUT.mul_f64(cx.registry.random.unit()),
            Duration::from_secs,
        );
        let encoder = Encoder {
            stored_form: output.is_stored_form() && respond::is_storage_version(&cx.resource),
            cx: cx.clone(),
            output,
            headed: AtomicBool::new(false),
        };
        let first = self.first(&encoder).await;
        let stream = Stream { encoder, subscription: self.subscription, deadline: Instant::now() + timeout };
        let state = (first, Some(stream));
        let chunks = stream::unfold(state, |(first, stream)| async move {
            if !first.is_empty() {
                return Some((Ok::<Bytes, std::convert::Infallible>(first), (Bytes::new(), stream)));
            }
            let mut stream = stream?;
            let chunk = stream.next().await?;
            let ended = stream.subscription.events.is_closed() && stream.subscription.events.is_empty();
            Some((Ok(chunk), (Bytes::new(), (!ended).then_some(stream))))
        });
        Body::from_stream(chunks)
    }

    /// Everything that is known already.
    async fn first(&self, encoder: &Encoder) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(snapshot) = &self.initial {
            for entry in &snapshot.entries {
                out.extend_from_slice(&encoder.object(EventType::Added.as_str(), &entry.stored).await);
            }
            if self.marks_end {
                out.extend_from_slice(&encoder.bookmark(snapshot.revision, true));
            }
        }
        for delivery in &self.known {
            out.extend_from_slice(&encoder.delivery(delivery).await);
        }
        out.freeze()
    }
}

struct Stream {
    encoder: Encoder,
    subscription: Subscription,
    deadline: Instant,
}

impl Stream {
    /// Waits for something to send and takes all of it; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut pending = Vec::new();
        let received =
            tokio::time::timeout_at(self.deadline, self.subscription.events.recv_many(&mut pending, BATCH))
                .await;
        if received.unwrap_or_default() == 0 {
            return None;
        }
        if let [one] = pending.as_slice() {
            return Some(self.encoder.delivery(one).await);
        }
        let mut out = BytesMut::new();
        for delivery in &pending {
            out.extend_from_slice(&self.encoder.delivery(delivery).await);
        }
        Some(out.freeze())
    }
}

/// Writes events in the form the client asked for.
struct Encoder {
    cx: RequestContext,
    output: Output,
    /// Events can be sent as they are encoded for all.
    stored_form: bool,
    /// A table's columns were sent; later events leave them out.
    headed: AtomicBool,
}

impl Encoder {
    async fn delivery(&self, delivery: &Delivery) -> Bytes {
        match delivery {
            Delivery::Bookmark(revision) => self.bookmark(*revision, false),
            Delivery::Event(kind, event) if self.stored_form => event.json(*kind),
            Delivery::Event(kind, event) => match event.object(*kind) {
                Some(object) => self.object(kind.as_str(), &object).await,
                None => Bytes::new(),
            },
        }
    }

    async fn object(&self, kind: &str, object: &Stored) -> Bytes {
        if self.stored_form {
            return crate::cache::encode_event(kind, object);
        }
        let shown = match object.to_value() {
            Ok(value) => self.show(value).await,
            Err(error) => Err(Status::internal(error)),
        };
        match shown {
            Ok(value) => self.frame(kind, value),
            Err(status) => error_event(&status),
        }
    }

    async fn show(&self, object: Value) -> Result<Value, Status> {
        self.shape(conversion::to_served(&self.cx.resource, object).await?)
    }

    /// An object of the served version in the shape asked for.
    fn shape(&self, object: Value) -> Result<Value, Status> {
        Ok(match self.output.shape {
            Shape::Partial | Shape::PartialList => respond::partial(object, self.output.meta_version),
            Shape::Full => object,
            Shape::Table => {
                let with_head = !self.headed.swap(true, Ordering::Relaxed);
                table::of_object(&self.cx, &self.output, &object, with_head)?
            }
        })
    }

    fn frame(&self, kind: &str, object: Value) -> Bytes {
        if self.output.format == Format::Protobuf {
            return protobuf::frame(kind, &object).unwrap_or_else(|status| {
                tracing::error!(kind = &*self.cx.resource.kind, %status, "an event has no protobuf form");
                Bytes::new()
            });
        }
        let event = json!({"type": kind, "object": object});
        match self.output.format {
            Format::Yaml => format!("---\n{}", serde_yaml::to_string(&event).unwrap_or_default()).into(),
            Format::Json | Format::Protobuf => format!("{event}\n").into(),
        }
    }

    /// An empty object that says how far the watch has come.
    fn bookmark(&self, revision: u64, ends_initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api_version) = (&self.cx.resource.kind, self.cx.resource.api_version());
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        match self.shape(object) {
            Ok(object) => self.frame("BOOKMARK", object),
            Err(status) => error_event(&status),
        }
    }
}

fn error_event(status: &Status) -> Bytes {
    format!("{}\n", json!({"type": "ERROR", "object": status})).into()
}
