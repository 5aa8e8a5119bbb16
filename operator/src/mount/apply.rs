//! Apply: writes what was built, and takes away what is no longer wanted.
//!
//! Server-side apply under one field manager; what stands already is not written again, so a reconcile
//! that changes nothing makes no request. Never reads, never decides.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use remotemount_crds::{RemoteMount, RemoteMountStatus, names};
use serde_json::json;

use crate::mount::build::stands;

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{what} {namespace}/{name}: {}", said(.source))]
pub struct ApplyError {
    /// What.
    pub what: &'static str,
    /// Where.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What the API server said.
    pub source: Box<kube::Error>,
}

/// Makes the ConfigMap stand as `wanted`; answers whether it had to be written.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn config_map(client: &Client, wanted: &ConfigMap, standing: Option<&ConfigMap>) -> Result<bool, ApplyError> {
    if stands(wanted, standing) {
        return Ok(false);
    }
    let (namespace, name) = (wanted.namespace().unwrap_or_default(), wanted.name_any());
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    // Forced: these objects are the operator's own, whoever wrote into them meanwhile.
    let how = PatchParams::apply(names::FIELD_MANAGER).force();
    match api.patch(&name, &how, &Patch::Apply(wanted)).await {
        Ok(_) => Ok(true),
        Err(error) => Err(failed("ConfigMap", namespace, name, error)),
    }
}

/// Takes this very ConfigMap away; one that is gone, or was made anew since, is no error.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn remove_config_map(client: &Client, known: &ConfigMap) -> Result<(), ApplyError> {
    let (namespace, name) = (known.namespace().unwrap_or_default(), known.name_any());
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let this = Preconditions { uid: known.uid(), resource_version: None };
    match api.delete(&name, &DeleteParams { preconditions: Some(this), ..DeleteParams::default() }).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
        Err(error) => Err(failed("ConfigMap", namespace, name, error)),
    }
}

/// Writes a status; the operator is its only writer.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn status(client: &Client, mount: &RemoteMount, status: &RemoteMountStatus) -> Result<(), ApplyError> {
    let (namespace, name) = (mount.namespace().unwrap_or_default(), mount.name_any());
    // By its metadata alone: the answer holds a spec that this version may not be able to read.
    let api: Api<PartialObjectMeta<RemoteMount>> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": remotemount_crds::API_VERSION,
        "kind": remotemount_crds::KIND,
        // With the uid, a mount that was made anew under the name is not given the old one's status.
        "metadata": { "uid": mount.uid() },
        "status": status,
    });
    let how = PatchParams::apply(names::FIELD_MANAGER).force();
    match api.patch_status(&name, &how, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(failed("status of RemoteMount", namespace, name, error)),
    }
}

fn failed(what: &'static str, namespace: String, name: String, source: kube::Error) -> ApplyError {
    ApplyError { what, namespace, name, source: Box::new(source) }
}

/// What the API server said, for people: its message alone, where it sent one.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_said_is_told_in_its_words() {
        let status = kube::core::Status::failure("exceeded quota: few", "Forbidden").with_code(403);
        let error = failed("ConfigMap", "ns".to_owned(), "m".to_owned(), kube::Error::Api(status.boxed()));
        assert_eq!(error.to_string(), "ConfigMap ns/m: exceeded quota: few (403)");
    }
}
