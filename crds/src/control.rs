//! The control link's messages, client and server, made from `proto/control.proto` by the build.
//!
//! What each means, and how the protocol may grow, is said there. Beside what is generated stand only
//! what both ends must agree on: the revision, the limits, and the names that the link goes by. Neither
//! end's behaviour is here.

pub mod codec;

/// The messages, as generated.
#[allow(missing_docs, rust_2018_idioms, clippy::all, clippy::pedantic)]
mod generated {
    tonic::include_proto!("remotemount.control.v1alpha1");
}

pub use generated::*;

/// The revision of the protocol that this code speaks. Raised when a new message changes what an end may expect.
pub const PROTOCOL: u32 = 1;
/// The largest message from a sidecar, in bytes.
pub const MAX_UP_BYTES: usize = 1 << 20;
/// The largest message from the operator, in bytes: manifests have at most [`crate::manifest::MAX_BYTES`] each.
pub const MAX_DOWN_BYTES: usize = 4 << 20;
/// How many mounts a `Status` tells of at most.
pub const MAX_MOUNTS: usize = 256;
/// How many problems a `Status` tells of at most.
pub const MAX_PROBLEMS: usize = 16;
/// How long a text for people may be, in bytes.
pub const MAX_TEXT_BYTES: usize = 1024;

/// How long a delete that failed is told of as trouble of its mount, in milliseconds.
pub const FAILURE_COUNTS_MILLIS: u64 = 600_000;

/// `text`, cut to at most [`MAX_TEXT_BYTES`] at the end of a character.
#[must_use]
pub fn cut(text: &str) -> &str {
    cut_to(text, MAX_TEXT_BYTES)
}

/// `text`, cut to at most `bytes` at the end of a character.
#[must_use]
pub fn cut_to(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut_to("aé", 2), "a");
        assert_eq!(cut_to("aé", 3), "aé");
        assert_eq!(cut(&"é".repeat(1000)).len(), MAX_TEXT_BYTES);
    }

    /// A sidecar of a later version may send what this one does not know.
    #[test]
    fn what_is_not_known_is_ignored() {
        // Field 15 of length 3, then a Status with field 14 as well.
        let unknown = [0x7a, 3, b'a', b'b', b'c'];
        let read = SidecarMessage::decode(&unknown[..]).unwrap();
        assert_eq!(read.message, None);
        let status = Status { draining: true, ..Status::default() };
        let mut bytes = status.encode_to_vec();
        bytes.extend([0x70, 1]);
        assert_eq!(Status::decode(&bytes[..]).unwrap(), status);
        let mount = MountStatus { source: 77, ..MountStatus::default() };
        assert_eq!(MountStatus::decode(&mount.encode_to_vec()[..]).unwrap().source(), Source::Unspecified);
    }
}
