//! From directories and names to paths.
//!
//! The protocol says a path in two halves. Each must be what it claims to be: a directory is an
//! absolute path, a name is one segment of one. Nothing is cleaned up or resolved, so what names one
//! key never reaches another (M2).

use tonic::Status;

use crate::doors::grpc::error;
use crate::path::FilerPath;

/// The directory.
///
/// # Errors
/// `InvalidArgument` when no key can have the path.
pub fn directory(directory: &str) -> Result<FilerPath, Status> {
    Ok(FilerPath::parse(directory)?)
}

/// The path of `name` in the directory; of the directory itself when the name is empty.
///
/// # Errors
/// As [`directory`]; a name is one segment.
pub fn path(directory: &str, name: &str) -> Result<FilerPath, Status> {
    let directory = self::directory(directory)?;
    if name.is_empty() {
        return Ok(directory);
    }
    if name.contains('/') {
        return Err(error::invalid("a name has no '/': put what comes before it into the directory"));
    }
    Ok(FilerPath::parse(&directory.child(name))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn halves_make_a_path() {
        for (directory, name, whole) in
            [("/", "", "/"), ("/", "a", "/a"), ("/a", "", "/a"), ("/a/", "b c", "/a/b c"), ("/a", "...", "/a/...")]
        {
            assert_eq!(path(directory, name).unwrap().as_str(), whole);
        }
    }

    #[test]
    fn halves_that_are_no_path_are_refused() {
        let long = "x".repeat(65_536);
        let bad = [
            ("", "a"),
            ("a", "b"),
            ("//", "a"),
            ("/a//b", "c"),
            ("/a/../b", "c"),
            ("/a", ".."),
            ("/a", "."),
            ("/a", "b/c"),
            ("/a", "/"),
            ("/a", "b/"),
            ("/a", "b\0"),
            ("/a", long.as_str()),
        ];
        for (directory, name) in bad {
            let status = path(directory, name).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{directory:?} {:?}", &name[..name.len().min(9)]);
            assert!(!status.message().is_empty());
        }
    }
}
