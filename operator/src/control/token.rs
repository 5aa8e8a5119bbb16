//! What a ServiceAccount token says of itself: only when it expires.
//!
//! The claim is read without checking the signature, and only of tokens that the API server has called
//! good; nothing but the end of a stream hangs on it. Pure.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

/// A stream ends after this at the latest: a pod that is gone is then noticed even if no watch told of it.
const LONGEST: Duration = Duration::from_secs(3600);
/// A stream ends at most this long before its token expires; the kubelet has renewed it by then.
const EARLIEST: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Claims {
    exp: u64,
}

/// When the token expires, in seconds since 1970; `None` when it does not say so.
#[must_use]
pub fn expiry(token: &str) -> Option<u64> {
    let payload = token.split('.').nth(1)?;
    let json = BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
    serde_json::from_slice::<Claims>(&json).ok().map(|claims| claims.exp)
}

/// How long a stream may last whose token expires at `expiry`, begun at `now` (both in seconds since 1970).
///
/// Ends before the expiry, by a tenth of what is left and at most a minute. `jitter`, from 0 to 1, shortens an
/// hour by up to a tenth, so that sidecars that came together do not come together again.
#[must_use]
pub fn lifetime(now: u64, expiry: Option<u64>, jitter: f64) -> Duration {
    let longest = LONGEST.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 10.0);
    let Some(expiry) = expiry else { return longest };
    let left = Duration::from_secs(expiry.saturating_sub(now));
    left.saturating_sub((left / 10).min(EARLIEST)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_read_from_the_claims() {
        let token = |claims: &str| format!("x.{}.y", BASE64URL_NOPAD.encode(claims.as_bytes()));
        assert_eq!(expiry(&token(r#"{"exp": 1700000000, "aud": ["remotemount.dev"]}"#)), Some(1_700_000_000));
        for bad in ["", "x", "x.y.z", "..", &token("{}"), &token(r#"{"exp": "soon"}"#)] {
            assert_eq!(expiry(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_stream_ends_before_its_token_and_within_an_hour() {
        let seconds = |left: u64| lifetime(1000, Some(1000 + left), 0.0).as_secs();
        assert_eq!(seconds(600), 540);
        assert_eq!(seconds(3600), 3540);
        assert_eq!(seconds(100_000), 3600);
        assert_eq!((seconds(10), seconds(0)), (9, 0));
        assert_eq!(lifetime(2000, Some(1000), 0.5), Duration::ZERO);
        assert_eq!(lifetime(0, None, 1.0).as_secs(), 3240);
    }
}
