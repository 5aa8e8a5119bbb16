//! What the demo's bucket holds: 5,400 small objects in 60 directories, one of 64 MiB, odd names.
//!
//! Owns the names and the contents, so that what is read back can be compared with what was put. The
//! large object's bytes come from a fixed pseudo-random sequence: any piece out of place shows.

use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use remotemount_tests::bucket::Bucket;

use crate::screen;

/// Albums in a year's directory; years are 2019 to 2023.
const ALBUMS: usize = 12;
/// Objects in an album.
const PICTURES: usize = 90;
const YEARS: std::ops::RangeInclusive<usize> = 2019..=2023;
const BATCH: usize = 1000;

/// Where the large object is.
pub const LARGE: &str = "video/holiday.mp4";
const LARGE_BYTES: usize = 64 << 20;

/// Names that a careless path would change on the way, with a short content each.
const ODD: [(&str, &str); 6] = [
    ("odd names/two words.txt", "a space"),
    ("odd names/a+b.txt", "a plus, which is a space only in queries"),
    ("odd names/100%.txt", "a percent sign"),
    ("odd names/50%20off.txt", "what looks like an escaped space and is none"),
    ("odd names/Grüße, 日本.txt", "letters beyond ASCII"),
    ("odd names/empty", ""),
];

/// What was put, as far as it is compared later.
pub struct Contents {
    /// The large object's bytes.
    pub large: Bytes,
    /// The odd names and their contents.
    pub odd: [(&'static str, &'static str); 6],
}

/// The key of a small object.
pub fn picture(year: usize, album: usize, picture: usize) -> String {
    format!("{year}/album-{album:02}/picture-{picture:03}.txt")
}

/// The content of a small object.
pub fn text(key: &str) -> String {
    format!("This stands for the picture {key}.\n")
}

/// How many objects an album has.
pub fn pictures() -> usize {
    PICTURES
}

/// How many objects a year has.
pub fn pictures_of_a_year() -> usize {
    ALBUMS * PICTURES
}

/// Fills the bucket, telling how far it is.
pub async fn fill(bucket: &Bucket) -> Result<Contents> {
    let keys: Vec<String> = YEARS
        .flat_map(|year| (0..ALBUMS).flat_map(move |album| (0..PICTURES).map(move |n| picture(year, album, n))))
        .collect();
    let begun = Instant::now();
    let mut put = 0;
    for batch in keys.chunks(BATCH) {
        put += bucket.put_many(batch.iter().map(|key| (key.clone(), text(key)))).await?;
        screen::fact("small objects", &format!("{put:>4} of {} after {}", keys.len(), screen::time(begun.elapsed())));
    }
    screen::fact("directories", &format!("{}, {PICTURES} objects in each", YEARS.count() * ALBUMS));
    put_odd(bucket).await?;
    let large = noise(LARGE_BYTES);
    let begun = Instant::now();
    bucket.put(LARGE, large.clone(), Some("video/mp4")).await?;
    screen::fact("a large object", &format!("{LARGE}, 64 MiB, after {}", screen::time(begun.elapsed())));
    Ok(Contents { large, odd: ODD })
}

async fn put_odd(bucket: &Bucket) -> Result<()> {
    for (key, content) in ODD {
        bucket.put(key, content, Some("text/plain")).await?;
    }
    screen::fact("odd names", &format!("{}, one of them of an object of 0 bytes", ODD.len()));
    Ok(())
}

/// Bytes without a pattern (xorshift64), the same every time.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}
