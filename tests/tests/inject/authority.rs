//! The operator's own CA as time goes by; the time is given, nothing waits.

use jiff::{SignedDuration, Timestamp};
use remotemount_operator::certificates::authority::{Authorities, LIFE, OVERLAP};
use remotemount_operator::certificates::leaf::{self, Leaf};
use rustls::pki_types::{ServerName, UnixTime};

use crate::stage;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn names() -> Vec<String> {
    ["remotemount-operator.remotemount-system.svc", "127.0.0.1"].map(str::to_owned).into()
}

/// Whether a client that trusts `bundle` takes the leaf at that time, for that name.
fn trusted(bundle: &str, leaf: &Leaf, name: &str, at: Timestamp) -> bool {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(std::sync::Arc::new(roots), provider)
        .build()
        .unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.as_second().try_into().unwrap()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    use rustls::client::danger::ServerCertVerifier as _;
    verifier.verify_server_cert(&leaf.key.cert[0], &[], &name, &[], at).is_ok()
}

#[test]
fn a_leaf_is_good_for_its_names_and_its_day() {
    let now = Timestamp::now();
    let authorities = Authorities::create(now).unwrap();
    let leaf = Leaf::issue(authorities.signing(now), &names(), now).unwrap();
    let good = |name, at| trusted(&authorities.bundle(), &leaf, name, at);
    for name in ["remotemount-operator.remotemount-system.svc", "127.0.0.1"] {
        assert!(good(name, now) && good(name, now + leaf::LIFE - HOUR), "{name}");
        // The clock of a client may be behind.
        assert!(good(name, now - SignedDuration::from_mins(4)), "{name}");
    }
    assert!(!good("127.0.0.1", now + leaf::LIFE + HOUR), "over");
    assert!(!good("elsewhere.svc", now) && !good("127.0.0.2", now));
    let (_, _, stranger) = stage::signed(&["127.0.0.1"]);
    assert!(!trusted(&stranger, &leaf, "127.0.0.1", now));
}

#[test]
fn a_leaf_is_due_at_half_of_its_life_or_when_the_clock_goes_back() {
    let now = Timestamp::now();
    let authorities = Authorities::create(now).unwrap();
    let ca = authorities.signing(now);
    let leaf = Leaf::issue(ca, &names(), now).unwrap();
    assert!(!leaf.due(ca, now) && !leaf.due(ca, now + HOUR * 11));
    assert!(leaf.due(ca, now + HOUR * 12) && leaf.due(ca, now + HOUR * 1000), "slept over it");
    assert!(leaf.due(ca, now - HOUR), "it was made in what is the future now");
    let other = Authorities::create(now).unwrap();
    assert!(leaf.due(other.signing(now), now), "another authority signs");
}

#[test]
fn a_ca_is_trusted_for_a_day_before_it_signs() {
    let made = Timestamp::now();
    let first = Authorities::create(made).unwrap();
    assert!(first.due(made + LIFE / 2).unwrap().is_none(), "nothing is due half-way");

    let near = made + LIFE - LIFE / 10 + HOUR;
    let both = first.due(near).unwrap().expect("a next one is due");
    assert_eq!(both.bundle().matches("BEGIN CERTIFICATE").count(), 2);
    assert!(both.bundle().starts_with(first.signing(near).certificate()));
    assert_eq!(both.signing(near).certificate(), first.signing(near).certificate(), "the old one signs still");
    assert!(both.due(near + OVERLAP - HOUR).unwrap().is_none());
    let before = Leaf::issue(both.signing(near), &names(), near + OVERLAP - HOUR).unwrap();

    let switch = near + OVERLAP + HOUR;
    assert_ne!(both.signing(switch).certificate(), first.signing(near).certificate(), "by the clock alone");
    let second = both.due(switch).unwrap().expect("the next one takes its place");
    assert_eq!(second.signing(switch).certificate(), both.signing(switch).certificate());
    let after = Leaf::issue(second.signing(switch), &names(), switch).unwrap();
    // Whoever has read any of the bundles since trusts both leaves.
    for bundle in [both.bundle(), second.bundle()] {
        assert!(trusted(&bundle, &before, "127.0.0.1", switch) && trusted(&bundle, &after, "127.0.0.1", switch));
    }
    let last = second.due(switch + OVERLAP * 5).unwrap().expect("the old one is let go");
    assert_eq!(last.bundle().matches("BEGIN CERTIFICATE").count(), 1);
    assert!(last.due(switch + OVERLAP * 6).unwrap().is_none());
}

#[test]
fn a_ca_that_has_ended_is_replaced_at_once() {
    let made = Timestamp::now() - LIFE - HOUR;
    let old = Authorities::create(made).unwrap();
    let now = Timestamp::now();
    let both = old.due(now).unwrap().unwrap();
    let leaf = Leaf::issue(both.signing(now), &names(), now).unwrap();
    assert!(trusted(&both.bundle(), &leaf, "127.0.0.1", now));
}

#[test]
fn the_secret_says_all_of_it() {
    let now = Timestamp::now();
    let first = Authorities::create(now).unwrap();
    let both = first.due(now + LIFE - HOUR * 24 * 30).unwrap().unwrap();
    let second = both.due(now + LIFE).unwrap().unwrap();
    for authorities in [&first, &both, &second] {
        let read = Authorities::read(&authorities.write()).unwrap();
        assert!(read == *authorities);
        // What was read signs as well as what was made.
        let leaf = Leaf::issue(read.signing(now), &names(), now).unwrap();
        assert!(trusted(&authorities.bundle(), &leaf, "127.0.0.1", now + HOUR * 2 - HOUR));
    }
}

#[test]
fn a_secret_that_is_not_ours_is_told_without_what_is_in_it() {
    let now = Timestamp::now();
    let good = Authorities::create(now).unwrap().write();
    let other = Authorities::create(now).unwrap().write();
    let cases: [(&str, Option<&[u8]>, &str); 6] = [
        ("ca.crt", None, "ca.crt is missing"),
        ("ca.key", None, "ca.key is missing"),
        ("ca.crt", Some(b"x"), "ca.crt is no certificate"),
        ("ca.key", Some(b"x"), "ca.key is no private key"),
        ("ca.key", Some(&[0xff]), "ca.key is not text"),
        ("ca.key", other.get("ca.key").map(Vec::as_slice), "is not the key of ca.crt"),
    ];
    for (key, value, told) in cases {
        let mut data = good.clone();
        match value {
            Some(value) => data.insert(key.to_owned(), value.to_vec()),
            None => data.remove(key),
        };
        let Err(error) = Authorities::read(&data) else { panic!("{told}") };
        let error = error.to_string();
        assert!(error.contains(told) && error.contains("remotemount-ca"), "{told}: {error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}
