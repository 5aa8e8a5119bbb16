//! What the API server was asked, by its own account: the audit log as typed records.
//!
//! One record a request. A watch is in the log twice, when it begins and when it ends; the later line
//! counts. A line that is still being written is left for the next reading.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// One request to the API server and how it was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Who asked: `system:serviceaccount:NAMESPACE:NAME`, or a certificate's name.
    pub user: String,
    /// The program that asked, as it calls itself.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for a path
    /// that is no resource, the HTTP method in lower case.
    pub verb: String,
    /// The path and query that were asked for.
    pub uri: String,
    /// The API group; empty for the core group, and for a path that is no resource.
    pub group: String,
    /// The resource, such as `configmaps`; empty for a path that is none.
    pub resource: String,
    /// Such as `status`; empty for the resource itself.
    pub subresource: String,
    /// Empty for what has none.
    pub namespace: String,
    /// The object's name; empty where the request names none, as a list does.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
}

impl Request {
    /// Whether it asks for a change, granted or not.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether it was refused for want of a right.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.code == 403
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    id: String,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

/// Reads the whole log, in the order in which requests were first answered.
pub fn read(log: &Path) -> Result<Vec<Request>> {
    let text = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Request>> {
    let mut requests: Vec<Request> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let event: Event = serde_json::from_str(line).with_context(|| format!("reading the audit line {line}"))?;
        let place = *places.entry(event.id.clone()).or_insert(requests.len());
        let request = event.into_request();
        match requests.get_mut(place) {
            Some(earlier) => *earlier = request,
            None => requests.push(request),
        }
    }
    Ok(requests)
}

impl Event {
    fn into_request(self) -> Request {
        let object = self.object_ref;
        Request {
            user: self.user.username,
            user_agent: self.user_agent,
            verb: self.verb,
            uri: self.uri,
            group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            code: self.response_status.code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, stage: &str, verb: &str, code: u16) -> String {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{id}","stage":"{stage}","requestURI":"/api/v1/namespaces/a/pods?watch=true","verb":"{verb}","user":{{"username":"someone","groups":["system:authenticated"]}},"sourceIPs":["127.0.0.1"],"objectRef":{{"resource":"pods","namespace":"a","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":{code}}}}}"#
        ) + "\n"
    }

    #[test]
    fn a_watch_is_one_request_and_keeps_its_place() {
        let log = line("1", "ResponseStarted", "watch", 200)
            + &line("2", "ResponseComplete", "delete", 403)
            + &line("1", "ResponseComplete", "watch", 504);
        let told: Vec<(String, u16)> =
            parse(&log).unwrap().into_iter().map(|request| (request.verb, request.code)).collect();
        assert_eq!(told, [("watch".to_owned(), 504), ("delete".to_owned(), 403)]);
    }

    #[test]
    fn a_line_that_is_being_written_waits() {
        let whole = line("1", "ResponseComplete", "list", 200);
        let half = &line("2", "ResponseComplete", "list", 200)[..60];
        assert_eq!(parse(&format!("{whole}{half}")).unwrap().len(), 1);
        assert!(parse(&format!("{half}\n{whole}")).is_err(), "a broken line is no line that is being written");
    }

    #[test]
    fn writes_and_refusals_are_told_apart() {
        let requests =
            parse(&(line("1", "ResponseComplete", "list", 200) + &line("2", "ResponseComplete", "patch", 403)));
        let told: Vec<(bool, bool)> =
            requests.unwrap().iter().map(|request| (request.is_write(), request.is_forbidden())).collect();
        assert_eq!(told, [(false, false), (true, true)]);
    }
}
