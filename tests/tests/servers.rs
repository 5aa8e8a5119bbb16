//! The S3 servers the tests stand on start, take objects and give them back.
//!
//! Also pins what the other tests count on: moto keeps keys byte for byte, weed takes 64 MiB and
//! several buckets and honours If-Match, rclone does not; moto and weed refuse what a bucket policy
//! denies. A server that changes in this is found
//! here, not in a failing test of the contract.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use anyhow::{Context, Result};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use remotemount_tests::bucket::Bucket;
use remotemount_tests::s3_server::{Kind, S3Server};
use tempfile::TempDir;

async fn put_and_head(kind: Kind) -> Result<(S3Server, Bucket, TempDir)> {
    let dir = TempDir::new()?;
    let server = S3Server::start(kind, dir.path()).await?;
    let bucket = Bucket::create(&server.endpoint(), "photos").await?;
    let etag = bucket.put("a/one.txt", "one", Some("text/x-odd; charset=utf-8")).await?;
    let head = bucket.head("a/one.txt").await?.context("no such object")?;
    assert_eq!(head.content_length, Some(3));
    assert_eq!(head.e_tag.as_deref(), Some(etag.as_str()));
    assert_eq!(bucket.etag("a/one.txt").await?, etag);
    assert_eq!(bucket.get("a/one.txt").await?, "one");
    assert!(bucket.head("a/two.txt").await?.is_none());
    let many = (0..100).map(|n| (format!("many/{n:03}"), format!("body {n}")));
    assert_eq!(bucket.put_many(many).await?, 100);
    assert_eq!(bucket.keys("many/").await?.len(), 100);
    bucket.delete("a/one.txt").await?;
    assert!(bucket.head("a/one.txt").await?.is_none());
    Ok((server, bucket, dir))
}

/// The error code of a get with an If-Match that does not hold; none if it is answered anyway.
async fn stale_get(bucket: &Bucket, key: &str) -> Option<String> {
    let get = bucket.client.get_object().bucket(&bucket.name).key(key);
    let got = get.if_match("\"0123456789abcdef0123456789abcdef\"").send();
    got.await.err().map(|error| error.code().unwrap_or_default().to_owned())
}

/// One key of three is denied: alone, and in bulk, where the other two go all the same.
async fn refuses_what_is_denied(server: &S3Server, bucket: &Bucket) -> Result<()> {
    let plain = Bucket::plain(&server.endpoint(), &bucket.name);
    let keys = ["denied/a", "denied/b", "denied/c"];
    let denied = "denied/b";
    for key in keys {
        bucket.put(key, "x", None).await?;
    }
    bucket.deny_delete(denied).await?;
    let alone = plain.client.delete_object().bucket(&plain.name).key(denied).send().await.unwrap_err();
    assert_eq!(alone.raw_response().map(|answer| answer.status().as_u16()), Some(403), "{alone:?}");
    let objects = keys.map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder().set_objects(Some(objects.to_vec())).build()?;
    let answer = plain.client.delete_objects().bucket(&plain.name).delete(delete).send().await?;
    let errors: Vec<_> = answer.errors().iter().map(|error| (error.key(), error.code())).collect();
    assert_eq!(errors, [(Some(denied), Some("AccessDenied"))]);
    assert_eq!(bucket.keys("denied/").await?, [denied]);
    bucket.allow_deletes().await?;
    plain.delete(denied).await?;
    assert!(bucket.keys("denied/").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn weed() -> Result<()> {
    let (mut server, bucket, _dir) = put_and_head(Kind::Weed).await?;
    let large = vec![7_u8; 64 << 20];
    bucket.put("large", large, None).await?;
    let head = bucket.head("large").await?.context("no such object")?;
    assert_eq!(head.content_length, Some(64 << 20));
    for n in 0..4 {
        let other = Bucket::create(&server.endpoint(), &format!("bucket-{n}")).await?;
        other.put("k", "v", None).await?;
    }
    assert_eq!(stale_get(&bucket, "large").await.as_deref(), Some("PreconditionFailed"));
    refuses_what_is_denied(&server, &bucket).await?;
    server.restart().await?;
    assert_eq!(bucket.get("many/007").await?, "body 7");
    Ok(())
}

#[tokio::test]
async fn moto() -> Result<()> {
    let (server, bucket, _dir) = put_and_head(Kind::Moto).await?;
    for key in ["a//b", "/lead", "x/../y", "dir/", "ü ÿ+%2F?#&", "a/./b", "trail//"] {
        bucket.put(key, key.to_owned(), None).await?;
        assert_eq!(bucket.get(key).await?, key);
        assert_eq!(bucket.keys(key).await?, [key]);
    }
    assert_eq!(stale_get(&bucket, "a//b").await.as_deref(), Some("PreconditionFailed"));
    refuses_what_is_denied(&server, &bucket).await?;
    assert!(server.filer_address().is_err());
    Ok(())
}

#[tokio::test]
async fn rclone() -> Result<()> {
    let (mut server, bucket, _dir) = put_and_head(Kind::Rclone).await?;
    assert!(server.data_dir().join("photos/many/007").is_file());
    assert_eq!(stale_get(&bucket, "many/007").await, None);
    server.restart().await?;
    assert_eq!(bucket.get("many/007").await?, "body 7");
    Ok(())
}
