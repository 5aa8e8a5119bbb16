//! Who is let in: a token of a pod that is there, made for us; everything else is refused and counted.

use futures_util::stream;
use kube::api::{Api, DeleteParams};
use remotemount_crds::control::control_client::ControlClient;
use remotemount_crds::control::sidecar_message::Message;
use remotemount_crds::control::{Hello, MountStatus, SidecarMessage, Status};
use remotemount_crds::names::AUDIENCE;
use remotemount_sidecar::link::connect::connect;
use remotemount_sidecar::link::settings::Settings;
use remotemount_tests::control_plane::API_AUDIENCE;
use remotemount_tests::manifest::Manifest;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::stage::{Operator, certificates, cluster, link_is, pod, published, s3};

/// How the operator answers that token: the code, and its words.
async fn answer(operator: &Operator, token: Option<&str>) -> Result<(), tonic::Status> {
    // The settings want some token; what is sent is ours.
    let file = operator.file("any.token");
    std::fs::write(&file, "any").unwrap();
    let endpoint = format!("https://{}", operator.address);
    let target = Settings::new(&endpoint, operator.file("ca.crt"), file).unwrap().read().unwrap();
    let mut client = ControlClient::with_origin(connect(&target).await.unwrap(), endpoint.parse().unwrap());
    let hello = SidecarMessage { message: Some(Message::Hello(Hello::default())) };
    let mut request = Request::new(stream::iter([hello]));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let mut down = client.connect(request).await?.into_inner();
    assert!(down.message().await?.is_some(), "a welcome");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_token_but_a_pods_own_is_refused_and_counted() {
    let (plane, client, web) = cluster("identity").await;
    let operator = Operator::start(client.clone()).await;
    answer(&operator, Some(&web.token)).await.unwrap();

    let claims = web.token.split('.').nth(1).unwrap();
    let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let mut expired = claims.clone();
    for (claim, value) in [("iat", 1_700_000_000), ("nbf", 1_700_000_000), ("exp", 1_700_003_600)] {
        expired[claim] = json!(value);
    }
    let mut other_pod = claims.clone();
    other_pod["kubernetes.io"]["pod"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    let forged = format!("{}.{}", web.token.rsplit_once('.').unwrap().0, "A".repeat(342));
    let gone = pod(plane, &client, "identity", "gone").await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), "identity");
    pods.delete("gone", &DeleteParams::default()).await.unwrap();
    // Another pod of that name does not make it good again.
    let _again = pod(plane, &client, "identity", "gone").await;

    let table = [
        ("none", None, Code::Unauthenticated, "Missing"),
        ("garbage", Some("not-a-token".to_owned()), Code::Unauthenticated, "Invalid"),
        ("forged", Some(forged), Code::Unauthenticated, "Invalid"),
        ("expired", Some(plane.sign_token(&expired).unwrap()), Code::Unauthenticated, "Expired"),
        (
            "another audience",
            Some(plane.pod_token("identity", "web-0", API_AUDIENCE).await.unwrap()),
            Code::Unauthenticated,
            "Audience",
        ),
        ("another pod's uid", Some(plane.sign_token(&other_pod).unwrap()), Code::Unauthenticated, "PodGone"),
        ("a pod that is gone", Some(gone.token), Code::Unauthenticated, "PodGone"),
        (
            "bound to no pod",
            Some(plane.token("identity", "default", AUDIENCE).await.unwrap()),
            Code::PermissionDenied,
            "Unbound",
        ),
    ];
    for (name, token, code, reason) in table {
        let before = operator.metrics.refusals(reason);
        let refused = answer(&operator, token.as_deref()).await.expect_err(name);
        assert_eq!(refused.code(), code, "{name}: {refused:?}");
        assert_eq!(operator.metrics.refusals(reason), before + 1, "{name}: {refused:?}");
        assert!(token.is_none_or(|token| !refused.message().contains(&token)), "{name}: {refused:?}");
    }
    assert_eq!(operator.registry.connected(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_speaks_for_its_own_namespace_only() {
    let (plane, client, web) = cluster("own").await;
    plane.create_namespace("strange", &[]).await.unwrap();
    let stranger = pod(plane, &client, "strange", "web-0").await;
    let operator = Operator::start(client).await;
    let manifest = Manifest::new("m", "/m", "own-bucket", &s3().await, "");
    let _sidecar = operator.sidecar(&stranger, &published(&manifest, 1)).start().await.unwrap();
    operator.until(("strange", 1), &[&stranger], |report| report.ready == 1).await;
    // Even where someone takes the stranger for one of the mount's pods.
    let report = operator.summary("own", 1, &[&web, &stranger]);
    assert_eq!((report.total, report.unreported, report.failing), (2, 2, 0), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_tells_apart_why_it_has_no_link() {
    let (plane, client, web) = cluster("apart").await;
    let mut operator = Operator::start(client).await;
    let manifest = published(&Manifest::new("m", "/m", "apart-bucket", &s3().await, ""), 1);
    let token = operator.file(&format!("{}.token", web.uid));
    let ca = std::fs::read_to_string(operator.file("ca.crt")).unwrap();
    std::fs::write(operator.file("ca.crt"), certificates().1).unwrap();
    let sidecar = operator.sidecar(&web, &manifest).start().await.unwrap();
    link_is(&sidecar, "waiting", Some("CertificateUntrusted")).await;

    std::fs::write(operator.file("ca.crt"), ca).unwrap();
    std::fs::write(&token, plane.token("apart", "default", AUDIENCE).await.unwrap()).unwrap();
    link_is(&sidecar, "waiting", Some("TokenRefused")).await;

    std::fs::remove_file(&token).unwrap();
    link_is(&sidecar, "waiting", Some("NotConfigured")).await;

    operator.stop().await;
    std::fs::write(&token, &web.token).unwrap();
    link_is(&sidecar, "waiting", Some("Unreachable")).await;

    operator.resume();
    link_is(&sidecar, "connected", None).await;
    assert!(!sidecar.log().contains(&web.token), "no token in the log");
}

/// A message that is too large, or a stream that begins otherwise than by Hello, ends that stream alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_ends_its_stream() {
    let (_, client, web) = cluster("protocol").await;
    let operator = Operator::start(client).await;
    let status = |bytes: usize| {
        let mount = MountStatus { name: "x".repeat(bytes), ..MountStatus::default() };
        Message::Status(Status { mounts: vec![mount], ..Status::default() })
    };
    let table = [
        ("no hello", vec![status(1)], Code::InvalidArgument),
        ("two megabytes", vec![Message::Hello(Hello::default()), status(2 << 20)], Code::OutOfRange),
    ];
    let file = operator.file("web.token");
    std::fs::write(&file, &web.token).unwrap();
    for (name, messages, code) in table {
        let endpoint = format!("https://{}", operator.address);
        let target = Settings::new(&endpoint, operator.file("ca.crt"), file.clone()).unwrap().read().unwrap();
        let mut client = ControlClient::with_origin(connect(&target).await.unwrap(), endpoint.parse().unwrap());
        let messages = messages.into_iter().map(|message| SidecarMessage { message: Some(message) });
        let mut request = Request::new(stream::iter(messages));
        request.metadata_mut().insert("authorization", format!("Bearer {}", web.token).parse().unwrap());
        let mut down = client.connect(request).await.unwrap().into_inner();
        let end = loop {
            match down.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{name}: ended in good order"),
                Err(status) => break status,
            }
        };
        assert_eq!(end.code(), code, "{name}: {end:?}");
    }
    answer(&operator, Some(&web.token)).await.unwrap();
}
