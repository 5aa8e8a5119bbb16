//! Text to `RemoteMount`s: the reader of manifests, for the sidecar, its `check` and the operator's tools.
//!
//! A manifest is one or more YAML documents, each a `RemoteMount` as `kubectl apply` takes it. A text
//! that cannot be read gives one error with its line; documents that can be read are judged by
//! [`crate::validate`]. Size is bounded before parsing (the API server's own limit for an object is
//! about as large). Pure: no file is opened here.
//!
//! A field that is not known here is a slip of the pen, and refused, in a document that a person wrote. In one
//! that has a `metadata.uid` it comes from an API server that knows it, by an operator that is newer than this
//! reader: it is told of and let be, so that sidecars outlive an upgrade.

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

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// The mount it is of.
    pub mount: RemoteMount,
    /// Its fields that are not known here, by path; only where it has a `metadata.uid`.
    pub unknown: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: ObjectMeta,
    spec: RemoteMountSpec,
    #[serde(default)]
    status: Option<RemoteMountStatus>,
}

/// The mounts of [`read`], without what is not known of them.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8]) -> Result<Vec<RemoteMount>, ManifestError> {
    Ok(read(bytes)?.into_iter().map(|document| document.mount).collect())
}

/// Reads every document of `bytes`.
///
/// # Errors
/// The first thing that keeps the text from being read, or all rules that its documents break.
pub fn read(bytes: &[u8]) -> Result<Vec<Document>, ManifestError> {
    if bytes.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge { size: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotText)?;
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).map_err(|error| syntax(&error))?;
    if documents.is_empty() {
        return Err(ManifestError::Empty);
    }
    let mut read = Vec::with_capacity(documents.len());
    let mut problems = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        if let Some(problem) = wrong_kind(index + 1, &document) {
            problems.push(problem);
            continue;
        }
        let (shape, unknown) = match shape(document) {
            Ok(read) => read,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if shape.metadata.name.as_deref().is_none_or(str::is_empty) {
            let message = "must be given: it names the mount in logs, metrics and /status".to_owned();
            problems.push(Problem { field: "metadata.name".to_owned(), message });
        }
        if shape.metadata.uid.as_deref().is_none_or(str::is_empty) {
            problems.extend(unknown.iter().map(|field| not_known(field)));
        }
        problems.extend(validate(&shape.spec));
        let mount = RemoteMount { metadata: shape.metadata, spec: shape.spec, status: shape.status };
        read.push(Document { mount, unknown });
    }
    if problems.is_empty() { Ok(read) } else { Err(ManifestError::Invalid(problems)) }
}

/// A document in its shape, and the paths of what has no place there; of the status nobody here is the writer.
fn shape(document: serde_json::Value) -> Result<(Shape, Vec<String>), Problem> {
    let mut unknown = Vec::new();
    // The path to the field says more than a line could; both keep it.
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(document, &mut track);
    let shape = serde_ignored::deserialize(tracked, |path| unknown.push(written(&path)));
    match shape {
        Ok(shape) => {
            unknown.retain(|field| !field.starts_with("status."));
            Ok((shape, unknown))
        }
        Err(error) => Err(Problem { field: track.path().to_string(), message: error.to_string() }),
    }
}

fn not_known(field: &str) -> Problem {
    let message = "is no field of a RemoteMount: mend its name, or remove it".to_owned();
    Problem { field: field.to_owned(), message }
}

/// A path as people write it, `spec.a[0].b`.
fn written(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", written(parent)),
        Path::Map { parent, key } => match written(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => written(parent),
    }
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
        let cases: [(&str, String, &str); 16] = [
            ("unknown field", GOOD.replace("path: /a", "path: /a, pth: /b"), "spec.pth: is no field of a RemoteMount"),
            (
                "unknown below",
                GOOD.replace("bucket: bucket", "bucket: bucket, bukket: b"),
                "spec.remote.s3.bukket: is no",
            ),
            ("unknown above", format!("{GOOD}colour: red\n"), "colour: is no field"),
            (
                "unknown in a list",
                GOOD.replace(
                    "path: /a",
                    "path: /a, podSelector: {matchExpressions: [{key: k, operator: Exists, vals: []}]}",
                ),
                "spec.podSelector.matchExpressions[0].vals: is no field",
            ),
            (
                "unknown in a choice",
                GOOD.replace("path: /a", "path: /a, credentials: {anonymous: {a: 1}}"),
                "spec.credentials.anonymous.a",
            ),
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

    /// A newer operator writes every default of its own; nothing that this reader knows is lost by that.
    #[test]
    fn what_a_newer_operator_writes_is_read_and_its_news_told_of() {
        let newer = GOOD.replace("{name: a}", "{name: a, uid: u, generation: 3, colour: red}").replace(
            "path: /a",
            "path: /a, deletePolicy: Retain, tier: {class: Cold}, expose: {http: {port: 1, tls: true}}",
        ) + "status: {news: 1}\nmore: {}\n";
        let mut documents = read(newer.as_bytes()).unwrap();
        let Document { mount, mut unknown } = documents.remove(0);
        unknown.sort();
        assert_eq!(unknown, ["metadata.colour", "more", "spec.expose.http.tls", "spec.tier"]);
        assert_eq!(mount.spec.delete_policy, crate::DeletePolicy::Retain);
        assert_eq!(mount.spec.expose.http.unwrap().port, 1);
        let wrong = newer.replace("port: 1", "port: 0");
        assert!(read(wrong.as_bytes()).unwrap_err().to_string().contains("spec.expose.http.port"), "rules hold");
        let written = newer.replace("uid: u", "uid: \"\"");
        let error = parse(written.as_bytes()).unwrap_err().to_string();
        assert!(["metadata.colour", "spec.tier", "tls"].iter().all(|field| error.contains(field)), "{error}");
    }

    /// As the API server answers a list: one object of a newer version does not take the others down.
    #[test]
    fn an_object_of_a_newer_version_is_read_from_a_list() {
        let spec = serde_json::json!({"path": "/a", "remote": {"s3": {"bucket": "bucket", "news": 1}}, "tier": "Cold"});
        let item =
            serde_json::json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a"}, "spec": spec});
        let list =
            serde_json::json!({"apiVersion": API_VERSION, "kind": "RemoteMountList", "metadata": {}, "items": [item]});
        let list: kube::core::ObjectList<RemoteMount> = serde_json::from_value(list).unwrap();
        assert_eq!(list.items[0].spec.path, "/a");
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
