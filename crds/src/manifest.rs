//! Text to `RemoteMount`s: the reader of manifests, for the sidecar, its `check` and the operator's tools.
//!
//! A manifest is one or more YAML documents, each a `RemoteMount` as `kubectl apply` takes it. A text
//! that cannot be read gives one error with its line; documents that can be read are judged by
//! [`crate::validate`]. Size is bounded before parsing (the API server's own limit for an object is
//! about as large). Pure: no file is opened here.

use kube::core::ObjectMeta;
use serde::Deserialize;

use crate::{API_VERSION, KIND, Problem, RemoteMount, RemoteMountSpec, RemoteMountStatus, validate};

/// The largest manifest that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Why a text is not a list of `RemoteMount`s.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is larger than a manifest may be.
    #[error("is {size} bytes; a manifest may have at most {MAX_BYTES}: remove what is not a RemoteMount")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The text is not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// The text is not YAML, or not of this shape.
    #[error("{0}")]
    Syntax(String),
    /// A text without documents.
    #[error("holds no document: write a RemoteMount into it or remove the file")]
    Empty,
    /// A document that breaks rules.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: ObjectMeta,
    spec: RemoteMountSpec,
    #[serde(default)]
    status: Option<RemoteMountStatus>,
}

/// Reads every document of `bytes`.
///
/// # Errors
/// The first thing that keeps the text from being read, or all rules that its documents break.
pub fn parse(bytes: &[u8]) -> Result<Vec<RemoteMount>, ManifestError> {
    if bytes.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge { size: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotText)?;
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).map_err(|error| syntax(&error))?;
    if documents.is_empty() {
        return Err(ManifestError::Empty);
    }
    let mut mounts = Vec::with_capacity(documents.len());
    let mut problems = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        if let Some(problem) = wrong_kind(index + 1, &document) {
            problems.push(problem);
            continue;
        }
        // The path to the field says more than a line could; serde_path_to_error keeps it.
        let document: Document = match serde_path_to_error::deserialize(document) {
            Ok(document) => document,
            Err(error) => {
                let field = error.path().to_string();
                problems.push(Problem { field, message: error.into_inner().to_string() });
                continue;
            }
        };
        if document.metadata.name.as_deref().is_none_or(str::is_empty) {
            let message = "must be given: it names the mount in logs, metrics and /status".to_owned();
            problems.push(Problem { field: "metadata.name".to_owned(), message });
        }
        problems.extend(validate(&document.spec));
        mounts.push(RemoteMount { metadata: document.metadata, spec: document.spec, status: document.status });
    }
    if problems.is_empty() { Ok(mounts) } else { Err(ManifestError::Invalid(problems)) }
}

fn wrong_kind(number: usize, document: &serde_json::Value) -> Option<Problem> {
    let text = |key: &str| document.get(key).and_then(serde_json::Value::as_str);
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version == Some(API_VERSION) && kind == Some(KIND) {
        return None;
    }
    let found = format!("apiVersion {}, kind {}", version.unwrap_or("missing"), kind.unwrap_or("missing"));
    let message =
        format!("document {number} is {found}; only {API_VERSION} {KIND} documents belong here: move it away");
    Some(Problem { field: "kind".to_owned(), message })
}

/// The parser's message on one line: it draws the source with markers, which no log line can hold.
fn syntax(error: &serde_saphyr::Error) -> ManifestError {
    let place = error.location().map(|at| format!("line {}, column {}: ", at.line(), at.column())).unwrap_or_default();
    let text = error.without_snippet().to_string();
    if text.contains("budget") {
        // Aliases that multiply, most often; the parser's own words are about its counters.
        return ManifestError::Syntax(
            "expands to far more than a manifest may hold: write it without aliases".to_owned(),
        );
    }
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    ManifestError::Syntax(format!("{place}{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: a}\nspec: {path: /a, remote: {s3: {bucket: bucket}}}\n";

    #[test]
    fn a_minimal_document_gets_every_default() {
        let mounts = parse(GOOD.as_bytes()).unwrap();
        let spec = &mounts[0].spec;
        assert_eq!(spec.metadata.ttl_seconds, 300);
        assert_eq!(spec.remote.timeout_seconds, 10);
        assert!(spec.credentials.workload_identity.is_some());
        assert_eq!(spec.expose.http.unwrap().port, 8888);
    }

    #[test]
    fn several_documents_in_one_file() {
        let two = format!("{GOOD}---\n{}", GOOD.replace("/a", "/b"));
        assert_eq!(parse(two.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn each_mistake_is_one_clear_line() {
        let huge = format!("{GOOD}# {}", "x".repeat(10 << 20));
        let cases: [(&str, String, &str); 12] = [
            ("unknown field", GOOD.replace("path: /a", "path: /a, pth: /b"), "pth"),
            ("two remotes", GOOD.replace("{s3:", "{gcs: {bucket: abc}, s3:"), "exactly one of s3, gcs and azure"),
            ("relative path", GOOD.replace("/a", "a"), "spec.path: path must be absolute"),
            (
                "port 0",
                GOOD.replace("path: /a", "path: /a, expose: {http: {port: 0}}"),
                "spec.expose.http.port: port must be from 1 to 65535; it is 0",
            ),
            ("not YAML", "{:::".to_owned(), "line 1"),
            ("10 MB", huge, "at most 1048576"),
            ("empty", String::new(), "holds no document"),
            ("another kind", GOOD.replace("kind: RemoteMount", "kind: Pod"), "kind Pod"),
            (
                "no spec",
                "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: a}\n".to_owned(),
                "spec",
            ),
            ("no name", GOOD.replace("{name: a}", "{}"), "metadata.name"),
            ("dot segment", GOOD.replace("/a,", "/a/../b,"), "'..'"),
            (
                "clash",
                GOOD.replace("path: /a", "path: /a, expose: {http: {port: 1}, s3: {port: 1}}"),
                "different ports",
            ),
        ];
        for (name, text, wanted) in cases {
            let error = parse(text.as_bytes()).expect_err(name).to_string();
            assert!(error.contains(wanted), "{name}: {error}");
            assert!(!error.contains('\n'), "{name}: one line: {error}");
        }
    }

    #[test]
    fn aliases_cannot_blow_up_the_reader() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(",")));
        }
        assert!(parse(text.as_bytes()).is_err());
    }
}
