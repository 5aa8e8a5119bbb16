//! ServiceAccount tokens and TokenReview: the facts that the control link builds its trust on.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use remotemount_tests::control_plane::{API_AUDIENCE, ControlPlane};
use serde_json::json;

const AUDIENCE: &str = "remotemount.dev";

/// What the API server says of a token, asked for our audience.
async fn review(client: &Client, token: &str) -> TokenReviewStatus {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let review = TokenReview { spec, ..TokenReview::default() };
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap()
}

fn refused(status: &TokenReviewStatus) {
    assert_ne!(status.authenticated, Some(true), "{status:?}");
    assert!(status.error.as_deref().is_some_and(|error| !error.is_empty()), "{status:?}");
}

async fn create_pod(client: &Client, namespace: &str, name: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_pods_token_says_which_pod_it_is() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("tokens", &[]).await.unwrap();
    let client = plane.client().await.unwrap();
    let pod = create_pod(&client, "tokens", "web-0").await;
    let token = plane.pod_token("tokens", "web-0", AUDIENCE).await.unwrap();

    let status = review(&client, &token).await;
    assert_eq!(status.authenticated, Some(true), "{status:?}");
    assert_eq!(status.audiences, Some(vec![AUDIENCE.to_owned()]));
    let user = status.user.unwrap();
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:tokens:default"));
    let extra = user.extra.unwrap();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["web-0"]);
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [pod.metadata.uid.unwrap()]);
}

#[tokio::test]
async fn an_accounts_token_names_no_pod() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("unbound", &[]).await.unwrap();
    let token = plane.token("unbound", "default", AUDIENCE).await.unwrap();
    let status = review(&plane.client().await.unwrap(), &token).await;
    assert_eq!(status.authenticated, Some(true), "{status:?}");
    let extra = status.user.unwrap().extra.unwrap_or_default();
    assert!(!extra.contains_key("authentication.kubernetes.io/pod-name"), "{extra:?}");
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("audiences", &[]).await.unwrap();
    let client = plane.client().await.unwrap();
    create_pod(&client, "audiences", "web-0").await;
    for audience in [API_AUDIENCE, "remotemount.example"] {
        refused(&review(&client, &plane.token("audiences", "default", audience).await.unwrap()).await);
        refused(&review(&client, &plane.pod_token("audiences", "web-0", audience).await.unwrap()).await);
    }
}

#[tokio::test]
async fn our_audience_does_not_open_the_api_server() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("stolen", &[]).await.unwrap();
    let ask = async |audience: &str| {
        let token = plane.token("stolen", "default", audience).await.unwrap();
        let said = plane
            .kubectl(&[
                "--kubeconfig",
                "/dev/null",
                "--server",
                &plane.url(),
                "--token",
                &token,
                "--insecure-skip-tls-verify",
                "auth",
                "whoami",
                "-o",
                "name",
            ])
            .await
            .unwrap();
        said.status.success()
    };
    assert!(ask(API_AUDIENCE).await);
    assert!(!ask(AUDIENCE).await, "a token that sidecars carry can be used on the API server");
}

#[tokio::test]
async fn forged_and_expired_tokens_are_refused() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("forged", &[]).await.unwrap();
    let client = plane.client().await.unwrap();
    let pod = create_pod(&client, "forged", "web-0").await;
    let good = plane.pod_token("forged", "web-0", AUDIENCE).await.unwrap();
    let claims = good.split('.').nth(1).unwrap();
    let claims: serde_json::Value =
        serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap();

    // The same claims under our signature are as good as the API server's: the cases below are
    // refused for what was changed in them, not for who signed.
    let status = review(&client, &plane.sign_token(&claims).unwrap()).await;
    assert_eq!(status.authenticated, Some(true), "{status:?}");

    let mut expired = claims.clone();
    for (claim, value) in [("iat", 1_700_000_000), ("nbf", 1_700_000_000), ("exp", 1_700_003_600)] {
        expired[claim] = json!(value);
    }
    refused(&review(&client, &plane.sign_token(&expired).unwrap()).await);

    let mut other_pod = claims.clone();
    other_pod["kubernetes.io"]["pod"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    assert_ne!(Some(&other_pod["kubernetes.io"]["pod"]["uid"]), pod.metadata.uid.map(|uid| json!(uid)).as_ref());
    refused(&review(&client, &plane.sign_token(&other_pod).unwrap()).await);

    let mut tampered = good.clone();
    tampered.truncate(good.rfind('.').unwrap() + 1);
    refused(&review(&client, &format!("{tampered}{}", "A".repeat(342))).await);
    refused(&review(&client, "not a token").await);
}

#[tokio::test]
async fn a_token_ends_with_its_pod() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("gone", &[]).await.unwrap();
    let client = plane.client().await.unwrap();
    create_pod(&client, "gone", "web-0").await;
    let token = plane.pod_token("gone", "web-0", AUDIENCE).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "gone");
    pods.delete("web-0", &DeleteParams::default()).await.unwrap();
    // Not reviewed before: the API server remembers for ten seconds what it found good.
    refused(&review(&client, &token).await);
    // A pod of the same name is another pod.
    create_pod(&client, "gone", "web-0").await;
    refused(&review(&client, &token).await);
}
