//! Certificates that someone else keeps: swapped under open doors.

use std::sync::Arc;

use remotemount_operator::certificates::Certificates;
use remotemount_operator::certificates::directory::Keeper;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::stage;

/// Whether a client that trusts `bundle` gets a connection.
async fn connects(certificates: &Certificates, bundle: &str) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(certificates.server_config(&["http/1.1"]).unwrap());
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = acceptor.accept(stream).await;
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let connected = TlsConnector::from(stage::trusting(bundle)).connect("127.0.0.1".try_into().unwrap(), stream).await;
    server.await.unwrap();
    connected.is_ok()
}

#[tokio::test]
async fn files_are_followed_by_content_and_only_when_they_fit() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (stage::signed(&["127.0.0.1"]), stage::signed(&["127.0.0.1"]));
    stage::write(directory.path(), &one);
    let (certificates, mut keeper) = Keeper::start(directory.path()).unwrap();
    assert_eq!(certificates.bundle().borrow().as_deref(), Some(one.2.as_str()));
    assert!(connects(&certificates, &one.2).await);
    assert!(!keeper.reload().unwrap(), "nothing changed");

    // Half of the new pair is there: a writer that is not done, or the wrong key.
    std::fs::write(directory.path().join("tls.crt"), &two.0).unwrap();
    assert!(keeper.reload().is_err());
    assert!(connects(&certificates, &one.2).await, "the last good pair is served");

    stage::write(directory.path(), &two);
    assert!(keeper.reload().unwrap());
    assert!(connects(&certificates, &two.2).await);
    assert!(!connects(&certificates, &one.2).await);
    assert_eq!(certificates.bundle().borrow().as_deref(), Some(two.2.as_str()));

    std::fs::remove_file(directory.path().join("tls.key")).unwrap();
    let error = keeper.reload().unwrap_err().to_string();
    assert!(error.contains("tls.key"), "{error}");
    assert!(connects(&certificates, &two.2).await);
}

#[tokio::test]
async fn without_a_ca_nothing_is_said_of_whom_to_trust() {
    let directory = tempfile::tempdir().unwrap();
    let files = stage::signed(&["127.0.0.1"]);
    stage::write(directory.path(), &files);
    std::fs::remove_file(directory.path().join("ca.crt")).unwrap();
    let (certificates, _) = Keeper::start(directory.path()).unwrap();
    assert_eq!(*certificates.bundle().borrow(), None::<Arc<str>>);
    assert!(connects(&certificates, &files.2).await);
}

#[test]
fn what_cannot_be_served_is_told_by_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let files = stage::signed(&["127.0.0.1"]);
    let other = stage::signed(&["127.0.0.1"]);
    let cases = [
        ((String::new(), files.1.clone(), files.2.clone()), "tls.crt"),
        ((files.0.clone(), "x".to_owned(), files.2.clone()), "tls.key"),
        ((files.0.clone(), other.1, files.2.clone()), "cannot be served"),
    ];
    for (files, told) in cases {
        stage::write(directory.path(), &files);
        let Err(error) = Keeper::start(directory.path()) else { panic!("{told}") };
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert!(!format!("{error:?}").contains("PRIVATE"), "{error:?}");
    }
}
