//! Lenient: reads RemoteMounts one by one, so that one which this version cannot read spoils no other.
//!
//! A newer version may have stored what this one does not know: an unknown field is let be, an unknown
//! value is not. A watch of typed objects fails as a whole on it, and with it each list, so the watch is
//! of untyped ones. What cannot be read is left out of the spec, and [`RemoteMountSpec::unreadable`] says
//! what it was. Such a mount is known under its path, so nobody takes that away, and its ConfigMap is
//! kept; but it is refused, never built from, so what was filled in here is never acted on.

use futures_util::stream::{Stream, StreamExt as _};
use kube::api::{ApiResource, ListParams};
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client};
use remotemount_crds::validate::Problem;
use remotemount_crds::{RemoteMount, RemoteMountSpec, RemoteMountStatus};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Scope;

/// So many values may be left out of one spec, before it is left out whole.
const LEFT_OUT: usize = 16;
/// Stands for a path that cannot be read; no path that can be served has a NUL, so it conflicts with none.
const NO_PATH: &str = "/\0";

/// The untyped twin of [`Scope::apis`] for RemoteMounts.
pub fn apis(scope: &Scope, client: &Client) -> Vec<Api<DynamicObject>> {
    let kind = ApiResource::erase::<RemoteMount>(&());
    match scope {
        Scope::All => vec![Api::all_with(client.clone(), &kind)],
        Scope::Namespaces(names) => {
            names.iter().map(|name| Api::namespaced_with(client.clone(), name, &kind)).collect()
        }
    }
}

/// The RemoteMounts of a namespace as they are at this moment, whatever is in them.
///
/// # Errors
/// The API server does not say.
pub async fn list(client: &Client, namespace: &str) -> kube::Result<Vec<RemoteMount>> {
    let kind = ApiResource::erase::<RemoteMount>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    Ok(api.list(&ListParams::default()).await?.items.into_iter().map(read).collect())
}

/// Watches RemoteMounts, whatever is in them.
pub fn mounts(api: Api<DynamicObject>) -> impl Stream<Item = watcher::Result<Event<RemoteMount>>> + Send + 'static {
    watch(api, watcher::Config::default()).default_backoff().map(|event| {
        Ok(match event? {
            Event::Apply(object) => Event::Apply(read(object)),
            Event::Delete(object) => Event::Delete(read(object)),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(read(object)),
            Event::InitDone => Event::InitDone,
        })
    })
}

/// The mount; what cannot be read of its spec is told of in it.
fn read(object: DynamicObject) -> RemoteMount {
    let DynamicObject { mut metadata, mut data, .. } = object;
    // Who manages which field is of no use here, and is the larger part of most objects.
    metadata.managed_fields = None;
    let mut spec = data.get_mut("spec").map(Value::take).unwrap_or_default();
    let mut first = None;
    let mut left = LEFT_OUT;
    let mut spec: RemoteMountSpec = loop {
        let (at, message) = match from(&spec) {
            Ok(spec) => break spec,
            Err(failure) => failure,
        };
        first.get_or_insert_with(|| problem(&at, message));
        left = left.saturating_sub(1);
        if left == 0 || !leave_out(&mut spec, &at) {
            break nothing();
        }
    };
    spec.unreadable = first;
    // The operator's own word, and said anew when it cannot be read.
    let status: Option<RemoteMountStatus> =
        data.get_mut("status").map(Value::take).and_then(|status| from(&status).ok());
    RemoteMount { metadata, spec, status }
}

fn from<T: DeserializeOwned>(value: &Value) -> Result<T, (Vec<String>, String)> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let segments = error.path().iter().filter_map(|segment| match segment {
            serde_path_to_error::Segment::Map { key } => Some(key.clone()),
            serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
        });
        (segments.collect(), error.inner().to_string())
    })
}

fn problem(at: &[String], message: String) -> Problem {
    let field = std::iter::once("spec").chain(at.iter().map(String::as_str)).collect::<Vec<_>>().join(".");
    let message = format!(
        "this version of the operator cannot read it ({message}): correct it, or run the version that knows it"
    );
    Problem { field, message }
}

/// Takes the value away; whether it was there. Of a list the whole goes, for what is left of it means something else.
fn leave_out(spec: &mut Value, at: &[String]) -> bool {
    let Some((last, parents)) = at.split_last() else { return false };
    let mut map: Option<&mut Map<String, Value>> = spec.as_object_mut();
    for (depth, parent) in parents.iter().enumerate() {
        let Some(here) = map else { return false };
        if here.get(parent).is_some_and(Value::is_array) {
            return here.remove(&parents[depth]).is_some();
        }
        map = here.get_mut(parent).and_then(Value::as_object_mut);
    }
    map.and_then(|map| map.remove(last)).is_some()
}

/// The spec of a mount of which nothing is known.
#[allow(clippy::expect_used)] // a constant; a test reads it
fn nothing() -> RemoteMountSpec {
    let spec = json!({"path": NO_PATH, "remote": {}});
    from(&spec).expect("every other field has a default")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd(spec: Value) -> RemoteMount {
        let object = json!({
            "apiVersion": "remotemount.dev/v1alpha1", "kind": "RemoteMount",
            "metadata": {"name": "m", "namespace": "ns", "uid": "u", "generation": 3}, "spec": spec,
            "status": {"observedGeneration": 2, "remoteURI": "s3://bucket/"},
        });
        read(serde_json::from_value(object).unwrap())
    }

    fn whole() -> Value {
        json!({"path": "/a", "remote": {"s3": {"bucket": "bucket"}}, "suspend": true})
    }

    #[test]
    fn what_can_be_read_is_what_it_is() {
        let read = odd(whole());
        assert_eq!(read.spec, serde_json::from_value(whole()).unwrap());
        assert_eq!(read.status.unwrap().observed_generation, Some(2));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_kept() {
        let changes = [
            (json!({"deletePolicy": "Archive"}), "spec.deletePolicy"),
            (json!({"metadata": {"strategy": "Clever"}}), "spec.metadata.strategy"),
            (json!({"remote": {"s3": {"addressing": "Sideways"}}}), "spec.remote.s3.addressing"),
            (json!({"sidecar": {"logLevel": "Trace"}, "deletePolicy": "Archive"}), "spec."),
            (json!({"podSelector": {"matchExpressions": [{"key": 1}]}}), "spec.podSelector.matchExpressions.0.key"),
        ];
        for (change, field) in changes {
            let mut spec = whole();
            json_patch::merge(&mut spec, &change);
            let read = odd(spec);
            let problem = read.spec.unreadable.clone().expect("it is told");
            assert!(problem.field.starts_with(field), "{problem}");
            assert_eq!((&*read.spec.path, read.spec.suspend), ("/a", true), "{change}");
            assert_eq!(read.metadata.generation, Some(3));
            assert_eq!(remotemount_crds::validate(&read.spec), [problem], "it is refused for that alone");
        }
    }

    #[test]
    fn a_spec_of_another_shape_is_known_by_name_alone() {
        for spec in [json!("text"), json!(null), json!({"remote": {"s3": {"bucket": "bucket"}}}), json!({"path": 5})] {
            let read = odd(spec.clone());
            assert!(read.spec.unreadable.is_some(), "{spec}");
            assert_eq!(read.spec.path, NO_PATH, "{spec}");
        }
    }
}
