//! Who a sidecar is: asked of the API server by TokenReview, never taken from what it says.
//!
//! A good token has our audience and is bound to a pod that is there; the API server checks signature,
//! expiry, audience, and that the pod still has that uid. What it answers is kept for a moment, by the
//! token's hash and bounded, so that a flapping connection does not ask each time; that it could not be
//! asked is not kept. Tokens are never logged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use remotemount_crds::names::AUDIENCE;
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::control::metrics::ControlMetrics;
use crate::control::token;

/// The API server's answer is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many reviews are under way at once; the API server has other things to do.
const REVIEWS: usize = 32;
/// A good answer is kept for so long.
const KEEP_GOOD: Duration = Duration::from_secs(60);
/// A refusal is kept for so long.
const KEEP_REFUSED: Duration = Duration::from_secs(10);
/// So many answers are kept.
const KEPT: usize = 10_000;
/// No token is that long.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: another pod of that name has another.
    pub uid: String,
}

/// A token that is good.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whose it is.
    pub pod: Arc<PodIdentity>,
    /// When it expires, in seconds since 1970, if it says so.
    pub expiry: Option<u64>,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error("no token: send a ServiceAccount token as 'authorization: Bearer …'")]
    Missing,
    /// The API server does not know it: forged, or of another cluster.
    #[error("the API server refuses the token: it is not one of this cluster's")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired: read it again, the kubelet renews it")]
    Expired,
    /// It was made for someone else.
    #[error("the token has another audience: project one with the audience {AUDIENCE}")]
    Audience,
    /// Its pod is gone, or another has its name by now.
    #[error("the token's pod is gone")]
    PodGone,
    /// It is good, and not bound to a pod.
    #[error("the token is not bound to a pod: project it into the pod by a serviceAccountToken volume")]
    Unbound,
    /// It is good, and not a ServiceAccount's.
    #[error("the token is not a ServiceAccount's")]
    NotServiceAccount,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The token is not good.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The API server could not be asked.
    #[error("the API server cannot be asked about the token: {0}")]
    Unavailable(#[from] kube::Error),
    /// The API server did not answer in time, or is asked too much.
    #[error("the API server gives no answer about the token within {} s", PATIENCE.as_secs())]
    TimedOut,
}

type Answer = Result<Verified, Refusal>;
type Digest = [u8; 48];

/// Reviews tokens.
pub struct Authenticator {
    reviews: Api<TokenReview>,
    places: Semaphore,
    kept: Mutex<HashMap<Digest, (Instant, Answer)>>,
    metrics: ControlMetrics,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Invalid,
        Self::Expired,
        Self::Audience,
        Self::PodGone,
        Self::Unbound,
        Self::NotServiceAccount,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "Missing",
            Self::Invalid => "Invalid",
            Self::Expired => "Expired",
            Self::Audience => "Audience",
            Self::PodGone => "PodGone",
            Self::Unbound => "Unbound",
            Self::NotServiceAccount => "NotServiceAccount",
        }
    }
}

impl Authenticator {
    /// Reviews by `client`'s API server.
    #[must_use]
    pub fn new(client: kube::Client, metrics: ControlMetrics) -> Self {
        Self { reviews: Api::all(client), places: Semaphore::new(REVIEWS), kept: Mutex::default(), metrics }
    }

    /// Whose `token` is. Refusals are counted.
    ///
    /// # Errors
    /// When it is not good, or the API server cannot be asked.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Verified, AuthenticateError> {
        let answer = match token.filter(|token| !token.is_empty()) {
            None => Err(Refusal::Missing),
            Some(token) if token.len() > MAX_TOKEN_BYTES => Err(Refusal::Invalid),
            Some(token) => self.known_or_asked(token).await?,
        };
        if let Err(refusal) = answer {
            self.metrics.refused(refusal.as_str());
        }
        Ok(answer?)
    }

    async fn known_or_asked(&self, token: &str) -> Result<Answer, AuthenticateError> {
        let Some(digest) = digest(token) else { return self.ask(token).await };
        if let Some(kept) = self.kept(&digest) {
            return Ok(kept);
        }
        let answer = self.ask(token).await?;
        self.keep(digest, answer.clone());
        Ok(answer)
    }

    async fn ask(&self, token: &str) -> Result<Answer, AuthenticateError> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) },
            ..TokenReview::default()
        };
        let parameters = PostParams::default();
        let asked = async {
            // Never closed; were it, asking without a place would do no harm.
            let _place = self.places.acquire().await;
            self.metrics.reviews.inc();
            self.reviews.create(&parameters, &review).await
        };
        let answered = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answered) => answered.map_err(AuthenticateError::Unavailable),
            Err(_) => Err(AuthenticateError::TimedOut),
        };
        let status = answered
            .inspect_err(|_| {
                self.metrics.review_failures.inc();
            })?
            .status
            .unwrap_or_default();
        Ok(judge(&status).map(|pod| Verified { pod: Arc::new(pod), expiry: token::expiry(token) }))
    }

    fn kept(&self, digest: &Digest) -> Option<Answer> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(digest).filter(|(until, _)| *until > Instant::now()).map(|(_, answer)| answer.clone())
    }

    fn keep(&self, digest: Digest, answer: Answer) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, (until, _)| *until > now);
        }
        if kept.len() < KEPT {
            let until = now + if answer.is_ok() { KEEP_GOOD } else { KEEP_REFUSED };
            kept.insert(digest, (until, answer));
        }
    }
}

/// What a review's status says.
fn judge(status: &TokenReviewStatus) -> Result<PodIdentity, Refusal> {
    if status.authenticated != Some(true) {
        return Err(refusal(status.error.as_deref().unwrap_or_default()));
    }
    // An API server that does not know of audiences leaves the list out: then the token is for itself, not for us.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(Refusal::Audience);
    }
    let user = status.user.clone().unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let account = username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let Some((namespace, _)) = account else { return Err(Refusal::NotServiceAccount) };
    let extra = user.extra.unwrap_or_default();
    let one = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Ok(value.clone()),
        _ => Err(Refusal::Unbound),
    };
    let name = one("authentication.kubernetes.io/pod-name")?;
    let uid = one("authentication.kubernetes.io/pod-uid")?;
    Ok(PodIdentity { namespace: namespace.to_owned(), name, uid })
}

/// Why the API server refused, by its words: it has no codes for it. What is not known counts as invalid.
fn refusal(error: &str) -> Refusal {
    let error = error.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if says(&["expired"]) {
        Refusal::Expired
    } else if says(&["audience"]) {
        Refusal::Audience
    } else if says(&["invalidated", "pod uid", "pod ref claim", "been deleted"]) {
        Refusal::PodGone
    } else {
        Refusal::Invalid
    }
}

/// The token's hash, by the library that serves TLS: what is kept in memory lets nobody in.
fn digest(token: &str) -> Option<Digest> {
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_256_GCM_SHA384 else { return None };
    suite.common.hash_provider.hash(token.as_bytes()).as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn status(username: &str, extra: &[(&str, &str)], audiences: &[&str]) -> TokenReviewStatus {
        let extra: BTreeMap<_, _> = extra
            .iter()
            .map(|(key, value)| (format!("authentication.kubernetes.io/{key}"), vec![(*value).to_owned()]))
            .collect();
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(audiences.iter().map(|&audience| audience.to_owned()).collect()),
            user: Some(UserInfo { username: Some(username.to_owned()), extra: Some(extra), ..UserInfo::default() }),
            error: None,
        }
    }

    #[test]
    fn only_a_pod_with_our_audience_is_let_in() {
        let pod = [("pod-name", "p"), ("pod-uid", "u")];
        let account = "system:serviceaccount:ns:default";
        let good = PodIdentity { namespace: "ns".to_owned(), name: "p".to_owned(), uid: "u".to_owned() };
        assert_eq!(judge(&status(account, &pod, &[AUDIENCE])), Ok(good));
        assert_eq!(judge(&status(account, &pod, &["other"])), Err(Refusal::Audience));
        assert_eq!(judge(&status(account, &pod, &[])), Err(Refusal::Audience));
        assert_eq!(judge(&status(account, &pod[..1], &[AUDIENCE])), Err(Refusal::Unbound));
        assert_eq!(judge(&status(account, &[], &[AUDIENCE])), Err(Refusal::Unbound));
        assert_eq!(judge(&status("admin", &pod, &[AUDIENCE])), Err(Refusal::NotServiceAccount));
        let refused = TokenReviewStatus { authenticated: Some(false), ..status(account, &pod, &[AUDIENCE]) };
        assert_eq!(judge(&refused), Err(Refusal::Invalid));
        assert_eq!(judge(&TokenReviewStatus::default()), Err(Refusal::Invalid));
    }

    #[test]
    fn refusals_are_told_apart_by_the_servers_words() {
        for (words, reason) in [
            ("[invalid bearer token, service account token has expired]", Refusal::Expired),
            (
                "[invalid bearer token, token audiences [\"a\"] is invalid for the target audiences [\"b\"]]",
                Refusal::Audience,
            ),
            ("[invalid bearer token, service account token has been invalidated]", Refusal::PodGone),
            ("pod UID (1) does not match service account pod ref claim (2)", Refusal::PodGone),
            ("[invalid bearer token, error in cryptographic primitive]", Refusal::Invalid),
            ("", Refusal::Invalid),
        ] {
            assert_eq!(refusal(words), reason, "{words}");
        }
    }

    #[test]
    fn tokens_are_kept_by_their_hash() {
        assert_ne!(digest("a").unwrap(), digest("b").unwrap());
        assert_eq!(digest("a"), digest("a"));
    }
}
