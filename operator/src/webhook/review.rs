//! AdmissionReview v1: bytes in, bytes out.
//!
//! Only the creation of pods is answered with a change; an update never is, since a pod that runs cannot
//! take a sidecar any more. The namespace is the request's: a pod from a Deployment's template carries
//! none. The pod is kept as JSON from the request to the patch, so that no field is lost that this build
//! does not know. Pure but for the mounts it is given: those that the watch knows, and only where the pod
//! would be refused for what they are, those that the API server has at this moment. A mount and its pod
//! may come in one `kubectl apply`, and a watch is behind now and then.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use k8s_openapi::ByteString;
use remotemount_crds::RemoteMount;
use serde::Deserialize;
use serde_json::{Value, json};

use super::metrics::Outcome;
use crate::inject::{self, Denial, Settings, patch};

/// The mounts of a namespace, if they are known.
pub type Known = Option<Vec<Arc<RemoteMount>>>;

/// Looks into the watch.
pub type Watched = dyn Fn(&str) -> Known + Send + Sync;

/// Asks the API server.
pub type Asked = dyn Fn(&str) -> BoxFuture<'static, Known> + Send + Sync;

/// Where the mounts of a namespace come from.
#[derive(Clone)]
pub struct Mounts {
    /// As the watch has them; `None` until they are known.
    pub watched: Arc<Watched>,
    /// As the API server has them at this moment; `None` where it does not say.
    pub asked: Arc<Asked>,
}

/// Answers reviews.
pub struct Reviewer {
    /// What pods may have.
    pub mounts: Mounts,
    /// What holds for every sidecar.
    pub settings: Settings,
}

/// An answer, and what is counted of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The AdmissionReview with the response.
    pub body: Vec<u8>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, as a metric's label.
    pub reason: &'static str,
}

/// What makes bytes no review.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// Not JSON, or not of this shape.
    #[error("not an AdmissionReview")]
    Syntax(#[from] serde_json::Error),
    /// Another version.
    #[error("an AdmissionReview of admission.k8s.io/v1 is answered here, not one of {0}")]
    Version(String),
    /// A review that asks nothing.
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: String,
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    resource: String,
}

impl Reviewer {
    /// Answers the review in `body`.
    ///
    /// # Errors
    /// When it is none.
    pub async fn answer(&self, body: &[u8]) -> Result<Verdict, ReviewError> {
        let review: Review = serde_json::from_slice(body)?;
        if review.api_version != "admission.k8s.io/v1" {
            return Err(ReviewError::Version(review.api_version));
        }
        let request = review.request.ok_or(ReviewError::NoRequest)?;
        let (response, outcome, reason) = self.respond(&request).await?;
        let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        Ok(Verdict { body: serde_json::to_vec(&body)?, outcome, reason })
    }

    async fn respond(&self, request: &Request) -> Result<(Value, Outcome, &'static str), serde_json::Error> {
        let unchanged = json!({"uid": request.uid, "allowed": true});
        let resource = (request.resource.group.as_str(), request.resource.resource.as_str());
        let asked = resource == ("", "pods") && request.sub_resource.is_empty() && request.operation == "CREATE";
        if !asked || !inject::wanted(&request.object) {
            return Ok((unchanged, Outcome::Unchanged, ""));
        }
        let Some(mounts) = (self.mounts.watched)(&request.namespace) else {
            let message = "the operator has not read the RemoteMounts yet: try again in a moment";
            let denial = denial(request, 503, "ServiceUnavailable", message);
            return Ok((denial, Outcome::Denied, "not_ready"));
        };
        let inject = |mounts: &[_]| inject::inject(&request.object, &request.namespace, mounts, &self.settings);
        let mut injected = inject(&mounts);
        if injected.as_ref().is_err_and(Denial::is_of_mounts)
            && let Some(mounts) = (self.mounts.asked)(&request.namespace).await
        {
            injected = inject(&mounts);
        }
        match injected {
            Ok(Some(injected)) => {
                let patch = patch::patch(&request.object, &injected.pod);
                let mut response = unchanged;
                if !injected.warnings.is_empty() {
                    response["warnings"] = json!(injected.warnings);
                }
                response["auditAnnotations"] = json!({"mounts": injected.mounts.join(",")});
                if patch.0.is_empty() {
                    return Ok((response, Outcome::Unchanged, "present"));
                }
                response["patchType"] = json!("JSONPatch");
                response["patch"] = serde_json::to_value(ByteString(serde_json::to_vec(&patch)?))?;
                Ok((response, Outcome::Injected, ""))
            }
            Ok(None) => Ok((unchanged, Outcome::Unchanged, "")),
            Err(error) => {
                tracing::info!(namespace = request.namespace, reason = error.reason(), %error, "a pod was refused");
                let status = if error.code() == 400 { "BadRequest" } else { "Invalid" };
                Ok((denial(request, error.code(), status, &error.to_string()), Outcome::Denied, error.reason()))
            }
        }
    }
}

fn denial(request: &Request, code: u16, reason: &str, message: &str) -> Value {
    let status = json!({"code": code, "reason": reason, "message": message});
    json!({"uid": request.uid, "allowed": false, "status": status})
}
