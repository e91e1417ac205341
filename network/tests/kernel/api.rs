//! Just enough of an API server for informers: lists and watches of JSON that
//! the test puts there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use knarr_api::time::SeededRandom;
use knarr_client::{Client, InformerFactory};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;

#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    /// By collection path and `namespace/name`.
    objects: BTreeMap<(String, String), Value>,
    watchers: Vec<(String, UnboundedSender<Bytes>)>,
}

const SERVICES: &str = "/api/v1/services";
const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/pods";
const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";
const NODES: &str = "/api/v1/nodes";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

impl Api {
    pub fn informers(&self) -> InformerFactory {
        let api = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let response = api.answer(request.uri());
            async move { Ok::<_, Infallible>(response) }
        });
        InformerFactory::new(Client::new(service, "default"), Arc::new(SeededRandom::new(1)))
    }

    pub fn namespace(&self, name: &str) {
        self.put(NAMESPACES, json!({"metadata": {"name": name, "uid": name}}));
    }

    /// A Service in `default` with this spec.
    pub fn service(&self, name: &str, spec: Value) {
        self.put(
            SERVICES,
            json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}),
        );
    }

    pub fn delete_service(&self, name: &str) {
        self.delete(SERVICES, &format!("default/{name}"));
    }

    /// The only slice of a Service.
    pub fn slice(&self, service: &str, endpoints: Value, ports: Value) {
        let labels = json!({"kubernetes.io/service-name": service});
        let metadata = json!({"name": service, "namespace": "default", "uid": service, "labels": labels});
        let slice =
            json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports});
        self.put(SLICES, slice);
    }

    pub fn node(&self, name: &str, range: &str, address: &str) {
        let status = json!({"addresses": [{"type": "InternalIP", "address": address}]});
        let metadata = json!({"name": name, "uid": name});
        self.put(NODES, json!({"metadata": metadata, "spec": {"podCIDRs": [range]}, "status": status}));
    }

    /// A pod in `default`.
    pub fn pod(&self, name: &str, labels: Value, mut pod: Value) {
        pod["metadata"] = json!({"name": name, "namespace": "default", "uid": name, "labels": labels});
        self.put(PODS, pod);
    }

    pub fn policy(&self, name: &str, spec: Value) {
        self.put(
            POLICIES,
            json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}),
        );
    }

    pub fn delete_policy(&self, name: &str) {
        self.delete(POLICIES, &format!("default/{name}"));
    }

    fn put(&self, path: &str, mut object: Value) {
        let mut state = self.0.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let key = (path.to_owned(), key_of(&object));
        let kind = if state.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        state.tell(path, kind, &object);
        state.objects.insert(key, object);
    }

    fn delete(&self, path: &str, key: &str) {
        let mut state = self.0.lock();
        state.version += 1;
        let mut object = state.objects.remove(&(path.to_owned(), key.to_owned())).expect("it exists");
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell(path, "DELETED", &object);
    }

    fn answer(&self, uri: &http::Uri) -> http::Response<BoxBody<Bytes, Infallible>> {
        let mut state = self.0.lock();
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            // A test's list and watch follow each other at once: nothing happens in
            // between that the watch would have to repeat.
            let (sender, receiver) = unbounded_channel();
            state.watchers.push((uri.path().to_owned(), sender));
            let frames = UnboundedReceiverStream::new(receiver).map(|line| Ok(Frame::data(line)));
            return http::Response::new(BodyExt::boxed(StreamBody::new(frames)));
        }
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((path, _), _)| path == uri.path())
            .map(|(_, object)| object)
            .collect();
        let list = json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        http::Response::new(Full::new(Bytes::from(list.to_string())).boxed())
    }
}

impl State {
    fn tell(&mut self, path: &str, kind: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        self.watchers.retain(|(watched, sender)| watched != path || sender.send(line.clone()).is_ok());
    }
}

fn key_of(object: &Value) -> String {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}
