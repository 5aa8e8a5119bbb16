//! The operator's own CA and how one follows another.
//!
//! The CA's Secret holds the current authority, while one is coming up the next, and after that the one
//! before, which is still trusted. When a tenth of the current one's life is left, a next is made and
//! trusted at once; a day later it signs, and takes the current one's place. Each step follows from the
//! Secret and the clock alone, so replicas agree without talking: whoever writes first wins, and the
//! others read. Pure, but for the making of keys: the time is given.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use remotemount_crds::names::CA_SECRET;

use super::CertificateError;

/// How long a CA is good for.
pub const LIFE: SignedDuration = SignedDuration::from_hours(24 * 3650);
/// How long a new CA is trusted before it signs: time for every client to hear of it.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
/// How much earlier than now a certificate begins: clocks of nodes differ.
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A CA: certificate and key.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    certificate: String,
    key: String,
    begins: Timestamp,
    ends: Timestamp,
}

/// What the CA's Secret holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities {
    current: Authority,
    next: Option<Authority>,
    previous: Option<String>,
}

impl Authority {
    /// A new CA, good from now on.
    ///
    /// # Errors
    /// When the crypto library makes no key.
    pub fn create(now: Timestamp) -> Result<Self, CertificateError> {
        // A certificate knows whole seconds; what is kept is what will be read.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let (begins, ends) = (now - SKEW, now + LIFE);
        params.not_before = instant(begins);
        params.not_after = instant(ends);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.remove(DnType::CommonName);
        // The second in the name keeps a CA and its successor apart for clients that look issuers up by name.
        params.distinguished_name.push(DnType::CommonName, format!("RemoteMount CA {}", now.as_second()));
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), begins, ends })
    }

    /// The certificate, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What signs leaves.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, CertificateError> {
        Ok(Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?)
    }

    fn read(
        data: &BTreeMap<String, Vec<u8>>,
        certificate: &'static str,
        key: &'static str,
    ) -> Result<Self, CertificateError> {
        let problem =
            |key, problem: &str| CertificateError::Secret { name: CA_SECRET, key, problem: problem.to_owned() };
        let text = |key| {
            let bytes = data.get(key).ok_or_else(|| problem(key, "is missing"))?;
            String::from_utf8(bytes.clone()).map_err(|_| problem(key, "is not text"))
        };
        let (pem, secret) = (text(certificate)?, text(key)?);
        let (begins, ends) = validity(&pem).ok_or_else(|| problem(certificate, "is no certificate"))?;
        let authority = Self { certificate: pem, key: secret, begins, ends };
        let pair = KeyPair::from_pem(&authority.key).map_err(|_| problem(key, "is no private key"))?;
        if !signed_for(&authority.certificate, &pair) {
            return Err(problem(key, &format!("is not the key of {certificate}")));
        }
        authority.issuer().map_err(|_| problem(certificate, "cannot sign"))?;
        Ok(authority)
    }
}

impl Authorities {
    /// One new CA.
    ///
    /// # Errors
    /// When the crypto library makes no key.
    pub fn create(now: Timestamp) -> Result<Self, CertificateError> {
        Ok(Self { current: Authority::create(now)?, next: None, previous: None })
    }

    /// Reads the Secret's data.
    ///
    /// # Errors
    /// Which key is missing or cannot be read.
    pub fn read(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, CertificateError> {
        let next = data.contains_key("next.crt").then(|| Authority::read(data, "next.crt", "next.key")).transpose()?;
        let previous = data.get("previous.crt").and_then(|pem| String::from_utf8(pem.clone()).ok());
        Ok(Self { current: Authority::read(data, "ca.crt", "ca.key")?, next, previous })
    }

    /// The Secret's data.
    #[must_use]
    pub fn write(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| data.insert(key.to_owned(), text.as_bytes().to_vec());
        put("ca.crt", &self.current.certificate);
        put("ca.key", &self.current.key);
        if let Some(next) = &self.next {
            put("next.crt", &next.certificate);
            put("next.key", &next.key);
        }
        if let Some(previous) = &self.previous {
            put("previous.crt", previous);
        }
        data
    }

    /// The CAs to trust, as PEM, the one that signs first.
    #[must_use]
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(Authority::certificate);
        let all = [Some(self.current.certificate()), next, self.previous.as_deref()];
        all.into_iter().flatten().collect()
    }

    /// The one that signs now.
    #[must_use]
    pub fn signing(&self, now: Timestamp) -> &Authority {
        match &self.next {
            // A current one that is about to end (a Secret from an old backup, say) is worth less than the overlap.
            Some(next) if now >= next.begins + SKEW + OVERLAP || self.current.ends <= now + OVERLAP => next,
            _ => &self.current,
        }
    }

    /// What the Secret should hold by now, where that differs.
    ///
    /// # Errors
    /// When the crypto library makes no key.
    pub fn due(&self, now: Timestamp) -> Result<Option<Self>, CertificateError> {
        if let Some(next) = &self.next {
            if self.signing(now) != next {
                return Ok(None);
            }
            let previous = Some(self.current.certificate.clone());
            return Ok(Some(Self { current: next.clone(), next: None, previous }));
        }
        if now >= self.current.ends - LIFE / 10 {
            let previous = self.previous.clone();
            return Ok(Some(Self { current: self.current.clone(), next: Some(Authority::create(now)?), previous }));
        }
        // Nothing that the one before signed lives longer than a leaf; the overlap is as long.
        let over = self.previous.is_some() && now >= self.current.begins + SKEW + OVERLAP * 4;
        Ok(over.then(|| Self { current: self.current.clone(), next: None, previous: None }))
    }
}

/// When a certificate begins and ends.
pub(super) fn validity(pem: &str) -> Option<(Timestamp, Timestamp)> {
    with_certificate(pem, |certificate| {
        let validity = certificate.validity();
        let begins = Timestamp::from_second(validity.not_before.timestamp()).ok()?;
        Some((begins, Timestamp::from_second(validity.not_after.timestamp()).ok()?))
    })?
}

fn signed_for(pem: &str, key: &KeyPair) -> bool {
    let same = |certificate: &x509_parser::certificate::X509Certificate<'_>| {
        certificate.public_key().subject_public_key.data.as_ref() == rcgen::PublicKeyData::der_bytes(key)
    };
    with_certificate(pem, same).unwrap_or(false)
}

fn with_certificate<T>(
    pem: &str,
    answer: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> T,
) -> Option<T> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    Some(answer(&pem.parse_x509().ok()?))
}

/// The time in the terms of rcgen, whose own time type is not ours to name.
pub(super) fn instant<T: From<std::time::SystemTime>>(at: Timestamp) -> T {
    T::from(std::time::SystemTime::from(at))
}
