//! Watches: events as they happen, everything pending in one write, each encoded once for all its watchers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::Message;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{Response, StatusCode};
use knarr_api::decode::Format;
use knarr_api::status::Status;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::negotiate::{JSON, Output, Shape};
use super::options::{ListOptions, parse_version};
use super::served_fields::ServedFields;
use super::{Call, protobuf, respond, table};
use crate::cache::{Delivery, Entry, Event, EventType, Snapshot, Subscription};
use crate::catalogue::Storage;
use crate::context::RequestContext;
use crate::conversion;
use crate::registry::invalid;
use crate::stored::Stored;
use crate::web_socket;

/// Watches without a timeout of their own end after this long, plus up to as much again.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
/// How many events are taken at once.
const BATCH: usize = 256;
/// How many bytes of events are put together before they are sent.
const CHUNK: usize = 64 * 1024;

pub async fn watch(call: Call) -> Result<Response<Body>, Status> {
    let Call { cx, headers, .. } = &call;
    let output = call.watch_output()?;
    let storage = cx.resource.stored().ok_or_else(Status::method_not_allowed)?;
    let options = ListOptions::parse(cx, true)?;
    let started = start(cx, storage, &options).await;
    let socket = web_socket::is_wanted(headers);
    let encoder = Encoder::new(cx, output, !socket, options.served_fields.clone());
    let is_text = encoder.output.format == Format::Json;
    let content_type = if is_text { JSON } else { "application/vnd.kubernetes.protobuf;stream=watch" };
    let frames = match started {
        Ok(watcher) => Ok(watcher.frames(encoder, &options)),
        // Too old a version is told in the stream, as upstream's watch cache does.
        Err(status) if status.code == 410 => Err(encoder.error(&status)),
        Err(status) => return Err(status),
    };
    if !socket {
        let body = frames.map_or_else(Body::from, |frames| {
            let chunks = stream::unfold(frames, async |mut frames| Some((frames.chunk().await?, frames)));
            Body::from_stream(chunks.map(Ok::<Bytes, Infallible>))
        });
        return Ok(respond::response(StatusCode::OK, content_type, body));
    }
    let frames = match frames {
        Ok(frames) => {
            stream::unfold(frames, async |mut frames| Some((frames.next().await?, frames))).left_stream()
        }
        Err(event) => stream::once(async { event }).right_stream(),
    };
    let messages =
        frames.map(move |frame| if is_text { web_socket::text(frame) } else { Message::Binary(frame) });
    // What the client calls what it reads is its own business.
    let protocol = web_socket::offered(headers).first().map(|name| (*name).to_owned()).unwrap_or_default();
    Ok(web_socket::serve(call.request, &protocol, messages).await)
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
    fn frames(self, encoder: Encoder, options: &ListOptions) -> Frames {
        let timeout = options.timeout.filter(|seconds| *seconds > 0).map_or_else(
            || MIN_TIMEOUT + MIN_TIMEOUT.mul_f64(encoder.cx.registry.random.unit()),
            Duration::from_secs,
        );
        let Self { initial, marks_end, known, subscription } = self;
        let initial = initial.unwrap_or_default();
        Frames {
            encoder,
            initial_end: marks_end.then_some(initial.revision),
            initial: initial.entries.into_iter(),
            pending: known.into_iter(),
            subscription,
            deadline: Instant::now() + timeout,
        }
    }
}

/// The events of one watch as they go out, each a frame.
struct Frames {
    encoder: Encoder,
    /// What there was at the start and was not sent yet.
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// The revision of the initial state, when its end is to be marked and was not yet.
    initial_end: Option<u64>,
    pending: std::vec::IntoIter<Delivery>,
    subscription: Subscription,
    deadline: Instant,
}

impl Frames {
    /// The next frame that needs no waiting.
    async fn ready(&mut self) -> Option<Bytes> {
        loop {
            let frame = if let Some(entry) = self.initial.next() {
                self.encoder.object(EventType::Added.as_str(), &entry.stored).await
            } else if let Some(revision) = self.initial_end.take() {
                self.encoder.bookmark(revision, true)
            } else {
                self.encoder.delivery(&self.pending.next()?).await
            };
            if !frame.is_empty() {
                return Some(frame);
            }
        }
    }

    /// Waits for the next frame; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready().await {
                return Some(frame);
            }
            let mut pending = Vec::new();
            let received = self.subscription.events.recv_many(&mut pending, BATCH);
            let received = tokio::time::timeout_at(self.deadline, received).await;
            if received.unwrap_or_default() == 0 {
                return None;
            }
            self.pending = pending.into_iter();
        }
    }

    /// As many frames as are ready, in one piece.
    async fn chunk(&mut self) -> Option<Bytes> {
        let first = self.next().await?;
        let Some(second) = self.ready().await else { return Some(first) };
        let mut chunk = BytesMut::with_capacity(first.len() + second.len());
        chunk.extend_from_slice(&first);
        chunk.extend_from_slice(&second);
        while chunk.len() < CHUNK
            && let Some(frame) = self.ready().await
        {
            chunk.extend_from_slice(&frame);
        }
        Some(chunk.freeze())
    }
}

/// Writes events in the form the client asked for.
struct Encoder {
    cx: RequestContext,
    output: Output,
    /// What is wanted of the objects as they are served.
    fields: ServedFields,
    /// Events can be sent as they are encoded for all.
    stored_form: bool,
    /// Objects are what a webhook makes of them.
    asks_webhook: bool,
    /// Events follow each other in one stream of bytes.
    framed: bool,
    /// A table's columns were sent; later events leave them out.
    headed: AtomicBool,
}

impl Encoder {
    fn new(cx: &RequestContext, output: Output, framed: bool, fields: ServedFields) -> Self {
        let stored_form =
            fields.is_empty() && output.is_stored_form() && respond::is_storage_version(&cx.resource);
        let asks_webhook = conversion::asks_webhook(&cx.resource);
        let headed = AtomicBool::new(false);
        Self { cx: cx.clone(), output, fields, stored_form, asks_webhook, framed, headed }
    }

    async fn delivery(&self, delivery: &Delivery) -> Bytes {
        match delivery {
            Delivery::Bookmark(revision) => self.bookmark(*revision, false),
            Delivery::Event(kind, event) if self.stored_form => event.json(*kind),
            Delivery::Event(kind, event) if self.asks_webhook => self.converted(*kind, event).await,
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
            Ok(value) => conversion::to_served(&self.cx.resource, value).await,
            Err(error) => Err(Status::internal(error)),
        };
        match shown {
            Ok(value) => match self.fields.match_object(&value) {
                Ok(true) => self.show(kind, value),
                Ok(false) => Bytes::new(),
                Err(status) => self.error(&status),
            },
            Err(status) => self.error(&status),
        }
    }

    /// The event as it is to who sees only objects whose served fields are as wanted. The webhook is asked once for
    /// all who watch this version.
    async fn converted(&self, kind: EventType, event: &Event) -> Bytes {
        let resource = &self.cx.resource;
        let convert = |states: Vec<Stored>| {
            let resource = Arc::clone(resource);
            async move {
                let states = states.iter().map(|stored| stored.to_value().map_err(Status::internal));
                conversion::all_to_served(&resource, states.collect::<Result<_, _>>()?).await
            }
        };
        let states = match event.states(&resource.version, convert).await {
            Ok(states) => states,
            Err(status) => return self.error(&status),
        };
        match self.fields.see(kind, &states) {
            Ok(Some((kind, object))) => self.show(kind.as_str(), object.clone()),
            Ok(None) => Bytes::new(),
            Err(status) => self.error(&status),
        }
    }

    fn show(&self, kind: &str, served: Value) -> Bytes {
        match self.shape(served) {
            Ok(shaped) => self.frame(kind, shaped),
            Err(status) => self.error(&status),
        }
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
        if self.output.format != Format::Protobuf {
            return format!("{}\n", json!({"type": kind, "object": object})).into();
        }
        let encoded =
            if self.framed { protobuf::frame(kind, &object) } else { protobuf::event(kind, &object) };
        encoded.unwrap_or_else(|status| {
            tracing::error!(kind = &*self.cx.resource.kind, %status, "an event has no protobuf form");
            Bytes::new()
        })
    }

    fn error(&self, status: &Status) -> Bytes {
        self.frame("ERROR", json!(status))
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
            Err(status) => self.error(&status),
        }
    }
}
