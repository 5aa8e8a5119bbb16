//! What a request asks for: its path, its query, and whether it is for a directory.

use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::doors::http::error::Refusal;
use crate::path::{FilerPath, PathError};

/// Entries of a directory in JSON, where `limit` does not say (as the reference filer).
const JSON_LIMIT: usize = 100_000;
/// Entries on one page for people.
const PAGE_LIMIT: usize = 1000;

/// A request, read.
#[derive(Debug)]
pub struct Asked {
    /// The path.
    pub path: FilerPath,
    /// Whether it ends in a slash: the directory is meant, whatever else has the name.
    pub directory: bool,
    /// HEAD rather than GET.
    pub head: bool,
    /// `?metadata=true`
    pub metadata: bool,
    /// JSON rather than a page, for a directory.
    pub json: bool,
    /// `?pretty=y`
    pub pretty: bool,
    /// `?limit=`
    pub limit: usize,
    /// `?lastFileName=`
    pub after: Option<String>,
    /// `?namePattern=`
    pub pattern: Option<String>,
    /// `?namePatternExclude=`
    pub exclude: Option<String>,
    /// `?recursive=true`
    pub recursive: bool,
    /// `?ignoreRecursiveError=true`
    pub ignore_recursive_error: bool,
    /// The request's headers.
    pub headers: HeaderMap,
}

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    /// When no key can have the path, or a parameter cannot be read.
    pub fn read(request: Parts) -> Result<Self, Refusal> {
        let raw = request.uri.path();
        let (path, directory) = path(raw).map_err(|error| Refusal::path(raw, &error))?;
        let accept = request.headers.get_all(ACCEPT);
        let json = accept.iter().any(|value| value.to_str().is_ok_and(|value| value.contains("application/json")));
        let mut asked = Self {
            directory,
            head: request.method == Method::HEAD,
            metadata: false,
            json,
            pretty: false,
            limit: if json { JSON_LIMIT } else { PAGE_LIMIT },
            after: None,
            pattern: None,
            exclude: None,
            recursive: false,
            ignore_recursive_error: false,
            headers: request.headers,
            path,
        };
        for (key, value) in form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes()) {
            match &*key {
                "metadata" => asked.metadata = value == "true",
                "pretty" => asked.pretty = value != "false" && value != "n",
                "recursive" => asked.recursive = truth(&asked.path, &key, &value)?,
                "ignoreRecursiveError" => asked.ignore_recursive_error = truth(&asked.path, &key, &value)?,
                "limit" => asked.limit = limit(&asked.path, &value)?,
                "lastFileName" => asked.after = Some(value.into_owned()).filter(|name| !name.is_empty()),
                "namePattern" => asked.pattern = Some(value.into_owned()).filter(|pattern| !pattern.is_empty()),
                "namePatternExclude" => asked.exclude = Some(value.into_owned()).filter(|pattern| !pattern.is_empty()),
                // Clients send parameters of other filers' features; those change nothing here.
                _ => {}
            }
        }
        Ok(asked)
    }
}

/// The path, and whether it ends in a slash, however that is written.
fn path(raw: &str) -> Result<(FilerPath, bool), PathError> {
    let text = percent_decode_str(raw).decode_utf8().map_err(|_| PathError::NotText)?;
    Ok((FilerPath::parse(&text)?, text.ends_with('/')))
}

fn limit(path: &FilerPath, value: &str) -> Result<usize, Refusal> {
    let limit = value.parse().ok().filter(|limit| (1..=JSON_LIMIT).contains(limit));
    limit.ok_or_else(|| {
        Refusal::parameter(path, format!("limit must be a number from 1 to {JSON_LIMIT}, not {value:?}"))
    })
}

/// A word that decides what is deleted is one of two; anything else is a mistake.
fn truth(path: &FilerPath, key: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        other => Err(Refusal::parameter(path, format!("{key} must be true or false, not {other:?}"))),
    }
}
