//! ServiceAccount tokens, as kubelet and `kubectl create token` get them, and kubeconfigs with them.
//!
//! They come from the API server's own TokenRequest. The one exception is [`ControlPlane::sign_token`],
//! for the tokens that it never gives out: expired ones, or with claims that are not so.

use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, ObjectMeta, PostParams};
use serde_json::Value;

use super::{API_AUDIENCE, ControlPlane};

impl ControlPlane {
    /// A token of a ServiceAccount for `audience`, good for an hour and bound to no pod.
    ///
    /// # Errors
    /// The API server refuses; most often there is no such ServiceAccount.
    pub async fn token(&self, namespace: &str, account: &str, audience: &str) -> Result<String> {
        self.request_token(namespace, account, audience, None).await
    }

    /// The token that kubelet would put into that pod for `audience`: its ServiceAccount's, bound to it.
    ///
    /// # Errors
    /// There is no such pod, or the API server refuses.
    pub async fn pod_token(&self, namespace: &str, pod: &str, audience: &str) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.client().await?, namespace);
        let pod = pods.get(pod).await.with_context(|| format!("looking for pod {namespace}/{pod}"))?;
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name_any()),
            uid: pod.uid(),
        };
        self.request_token(namespace, account.as_deref().unwrap_or("default"), audience, Some(bound)).await
    }

    /// A kubeconfig of a ServiceAccount, with all the rights that RBAC gives it and no other.
    ///
    /// # Errors
    /// As [`ControlPlane::token`].
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.token(namespace, account, API_AUDIENCE).await?;
        self.pki.write_token_kubeconfig(&format!("{namespace}.{account}.kubeconfig"), account, &token)
    }

    /// A token with exactly those claims, signed as the API server signs.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn sign_token(&self, claims: &Value) -> Result<String> {
        self.pki.sign_token(claims)
    }

    /// Makes a ServiceAccount.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn create_account(&self, namespace: &str, name: &str) -> Result<()> {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        accounts
            .create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() })
            .await
            .with_context(|| format!("making ServiceAccount {namespace}/{name}"))?;
        Ok(())
    }

    async fn request_token(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
        bound: Option<BoundObjectReference>,
    ) -> Result<String> {
        let spec = TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            bound_object_ref: bound,
            expiration_seconds: Some(3600),
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("asking for a token of {namespace}/{account}"))?;
        Ok(answer.status.context("the answer holds no token")?.token)
    }
}
