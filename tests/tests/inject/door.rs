//! The webhook's door, over real TLS with a client that checks the certificate.

use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use remotemount_operator::inject::inject;
use remotemount_operator::webhook::metrics::Outcome;
use remotemount_operator::webhook::review::Mounts;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::stage::{self, NAMESPACE, Served, mount, pod, serve};

fn some_mounts() -> Mounts {
    stage::watched(Some(vec![mount("images", "/images", &json!({}))]))
}

async fn connect(served: &Served) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    TlsConnector::from(stage::trusting(&served.bundle)).connect(name, stream).await.unwrap()
}

async fn send(served: &Served, method: &str, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
    let stream = TokioIo::new(connect(served).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", "operator");
    let response = sender.send_request(request.body(Full::<bytes::Bytes>::from(body)).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    drop(sender);
    let _ = driving.await;
    (status, body)
}

fn review(operation: &str, namespace: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace, "operation": operation, "userInfo": {"username": "someone"},
            "object": object, "oldObject": null, "dryRun": true, "options": null,
        },
    })
}

async fn ask(served: &Served, review: &Value) -> Value {
    let (status, body) = send(served, "POST", "/inject?timeout=10s", review.to_string().into_bytes()).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    answer["response"].clone()
}

fn patched(pod: &Value, response: &Value) -> Value {
    use k8s_openapi::ByteString;
    assert_eq!(response["patchType"], "JSONPatch");
    let ByteString(patch) = serde_json::from_value(response["patch"].clone()).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    pod
}

#[tokio::test]
async fn a_new_pod_gets_its_sidecar_and_an_injected_one_nothing() {
    let served = serve(some_mounts()).await;
    // As a ReplicaSet's controller sends it: neither a name nor a namespace.
    let mut pod = pod("app");
    pod["metadata"]["generateName"] = json!("app-");
    pod["metadata"].as_object_mut().unwrap().remove("name");
    let response = ask(&served, &review("CREATE", NAMESPACE, &pod)).await;
    assert_eq!(response["allowed"], true);
    let injected = patched(&pod, &response);
    let mounts = [mount("images", "/images", &json!({}))];
    assert_eq!(injected, inject(&pod, NAMESPACE, &mounts, &stage::settings()).unwrap().unwrap().pod);
    assert_eq!(injected["spec"]["initContainers"][0]["name"], "remotemount");

    let again = ask(&served, &review("CREATE", NAMESPACE, &injected)).await;
    assert_eq!((&again["allowed"], again.get("patch")), (&json!(true), None));
    assert_eq!(served.metrics.get(Outcome::Injected, ""), 1);
    assert_eq!(served.metrics.get(Outcome::Unchanged, "present"), 1);
}

#[tokio::test]
async fn what_is_not_a_new_pod_is_let_through_untouched() {
    let served = serve(some_mounts()).await;
    let mut status = review("CREATE", NAMESPACE, &pod("app"));
    status["request"]["subResource"] = json!("ephemeralcontainers");
    let mut other = review("CREATE", NAMESPACE, &pod("app"));
    other["request"]["resource"] = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    let unlabelled = review("CREATE", NAMESPACE, &json!({"metadata": {}, "spec": {}}));
    let mut deleted = review("DELETE", NAMESPACE, &Value::Null);
    deleted["request"]["oldObject"] = pod("app");
    for review in [review("UPDATE", NAMESPACE, &pod("app")), status, other, unlabelled, deleted] {
        let response = ask(&served, &review).await;
        assert_eq!(response["allowed"], true, "{review}");
        assert!(response.get("patch").is_none(), "{review}");
    }
}

#[tokio::test]
async fn a_denial_has_code_reason_and_message() {
    let served = serve(some_mounts()).await;
    let response = ask(&served, &review("CREATE", "elsewhere", &pod("app"))).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    assert_eq!(response["status"]["reason"], "Invalid");
    assert!(response["status"]["message"].as_str().unwrap().contains("namespace elsewhere"));
    assert_eq!(served.metrics.get(Outcome::Denied, "no_mount"), 1);

    let unknowing = serve(stage::watched(None)).await;
    let response = ask(&unknowing, &review("CREATE", NAMESPACE, &pod("app"))).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(503)));
    assert_eq!(unknowing.metrics.get(Outcome::Denied, "not_ready"), 1);
}

#[tokio::test]
async fn what_is_no_review_is_an_http_error() {
    let served = serve(some_mounts()).await;
    let mut old = review("CREATE", NAMESPACE, &pod("app"));
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: [(&str, &str, Vec<u8>, u16); 8] = [
        ("POST", "/inject", b"{".to_vec(), 400),
        ("POST", "/inject", b"[]".to_vec(), 400),
        ("POST", "/inject", old.to_string().into_bytes(), 400),
        ("POST", "/inject", br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_vec(), 400),
        ("POST", "/inject", deep.into_bytes(), 400),
        ("POST", "/inject", vec![b' '; 5 << 20], 413),
        ("GET", "/inject", Vec::new(), 405),
        ("POST", "/", Vec::new(), 404),
    ];
    for (method, path, body, code) in cases {
        let start = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let (status, _) = send(&served, method, path, body).await;
        assert_eq!(status, code, "{method} {path} {start}");
    }
    assert_eq!(served.metrics.get(Outcome::Failed, "malformed"), 6);
}

#[tokio::test]
async fn a_request_under_way_ends_before_the_door_does() {
    let served = serve(some_mounts()).await;
    let body = review("CREATE", NAMESPACE, &pod("app")).to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let mut stream = connect(&served).await;
    let head = format!("POST /inject HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    // The door has begun to read it: another request that came later was answered.
    ask(&served, &review("UPDATE", NAMESPACE, &pod("app"))).await;
    served.stop.cancel();
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    served.task.await.unwrap();
}

#[tokio::test]
async fn who_does_not_trust_the_certificate_is_counted_and_who_speaks_no_tls_is_not() {
    let served = serve(some_mounts()).await;
    for said in ["", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        // Whether it ends with a word or a reset does not matter.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let (_, _, stranger) = stage::signed(&["127.0.0.1"]);
    let stream = TcpStream::connect(served.address).await.unwrap();
    let connector = TlsConnector::from(stage::trusting(&stranger));
    assert!(connector.connect("127.0.0.1".try_into().unwrap(), stream).await.is_err());
    while served.metrics.get(Outcome::Failed, "tls") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(served.metrics.get(Outcome::Failed, "tls"), 1);
}
