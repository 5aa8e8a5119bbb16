//! The certificate of one replica: made in memory, for a day, by the authority that signs now.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::CertificateError;
use super::authority::{Authority, SKEW, instant};

/// How long a leaf is good for.
pub const LIFE: SignedDuration = SignedDuration::from_hours(24);

/// A leaf, and what says when another is due.
#[derive(Clone)]
pub struct Leaf {
    /// Certificate and key.
    pub key: Arc<CertifiedKey>,
    issuer: String,
    renew: Timestamp,
    made: Timestamp,
}

impl Leaf {
    /// A new leaf for `names`, DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name is none, or the authority cannot sign.
    pub fn issue(authority: &Authority, names: &[String], now: Timestamp) -> Result<Self, CertificateError> {
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.not_before = instant(now - SKEW);
        params.not_after = instant(now + LIFE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, "remotemount-operator");
        let certificate = params.signed_by(&pair, &authority.issuer()?)?;
        let key = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider)
            .map_err(|source| CertificateError::Serve { origin: "the operator's own leaf".to_owned(), source })?;
        let issuer = authority.certificate().to_owned();
        Ok(Self { key: Arc::new(key), issuer, renew: now + LIFE / 2, made: now })
    }

    /// Whether another is due: half of its life is over, another authority signs, or the clock went back.
    #[must_use]
    pub fn due(&self, authority: &Authority, now: Timestamp) -> bool {
        now >= self.renew || now < self.made - SKEW || self.issuer != authority.certificate()
    }
}
