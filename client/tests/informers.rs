//! Informers against a scripted server: what is missed while a watch is broken is found again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use knarr_api::time::SeededRandom;
use knarr_client::{Change, Client, InformerFactory, connect::in_process};
use kube::client::Body;
use tokio::sync::mpsc;
use tower::service_fn;

/// A server that gives its answers in order, and after the last one keeps every request waiting.
fn server(answers: &[(&'static str, u16, &'static str)]) -> Client {
    let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
    in_process(service_fn(move |request: Request<Body>| {
        let answer = answers.lock().unwrap().pop_front();
        async move {
            let Some((expected, code, body)) = answer else { return std::future::pending().await };
            let uri = request.uri().to_string();
            assert!(uri.contains(expected), "{uri} is not {expected}");
            let response = Response::builder().status(code).body(Body::from(body.as_bytes().to_vec()));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        }
    }))
}

fn follow(client: Client) -> (InformerFactory, mpsc::UnboundedReceiver<String>) {
    let informers = InformerFactory::new(client, Arc::new(SeededRandom::new(1)));
    let (sender, receiver) = mpsc::unbounded_channel();
    let maps = informers.informer::<ConfigMap>();
    maps.subscribe(move |change| {
        let name = change.object().metadata.name.clone().unwrap();
        let kind = match change {
            Change::Added(_) => "added",
            Change::Updated { .. } => "updated",
            Change::Deleted { stale: true, .. } => "missed",
            Change::Deleted { stale: false, .. } => "deleted",
        };
        sender.send(format!("{kind} {name}")).unwrap();
    })
    .forever();
    informers.start();
    (informers, receiver)
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_is_followed_by_a_list_and_the_difference_is_told() {
    let client = server(&[
        (
            "limit=500",
            200,
            r#"{"metadata":{"resourceVersion":"5"},"items":[
                {"metadata":{"name":"a","uid":"1","resourceVersion":"3"}},
                {"metadata":{"name":"b","uid":"2","resourceVersion":"4"}}]}"#,
        ),
        (
            "resourceVersion=5",
            200,
            concat!(
                r#"{"type":"MODIFIED","object":{"metadata":{"name":"a","uid":"1","resourceVersion":"6"}}}"#,
                "\n",
                r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
                "\n",
                r#"{"type":"ERROR","object":{"code":410,"message":"too old"}}"#,
                "\n",
            ),
        ),
        (
            "limit=500",
            200,
            r#"{"metadata":{"resourceVersion":"20"},"items":[
                {"metadata":{"name":"a","uid":"1","resourceVersion":"6"}},
                {"metadata":{"name":"c","uid":"3","resourceVersion":"15"}}]}"#,
        ),
    ]);
    let (informers, mut changes) = follow(client);
    for expected in ["added a", "added b", "updated a", "missed b", "added c"] {
        assert_eq!(changes.recv().await.unwrap(), expected);
    }
    informers.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_list_is_tried_again_and_a_broken_watch_goes_on_where_it_was() {
    let client = server(&[
        ("limit=500", 503, "busy"),
        ("limit=500", 200, r#"{"metadata":{"resourceVersion":"5"},"items":null}"#),
        (
            "resourceVersion=5",
            200,
            concat!(
                r#"{"type":"ADDED","object":{"metadata":{"name":"a","uid":"1","resourceVersion":"7"}}}"#,
                "\n",
                "{"
            ),
        ),
        ("resourceVersion=7", 200, "nonsense\n"),
        (
            "resourceVersion=7",
            200,
            concat!(
                r#"{"type":"DELETED","object":{"metadata":{"name":"a","uid":"1","resourceVersion":"8"}}}"#,
                "\n"
            ),
        ),
    ]);
    let (informers, mut changes) = follow(client);
    for expected in ["added a", "deleted a"] {
        assert_eq!(changes.recv().await.unwrap(), expected);
    }
    informers.stop().await;
}
