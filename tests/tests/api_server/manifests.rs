//! The RemoteMounts that the scenarios write, as JSON: also those that no type could hold.

use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use remotemount_crds::RemoteMount;
use remotemount_tests::control_plane::ControlPlane;
use serde_json::{Value, json};

/// The smallest spec there is.
pub fn minimal() -> Value {
    json!({"path": "/data", "remote": {"s3": {"bucket": "bucket"}}})
}

/// The smallest spec, with the value at a JSON pointer set; objects on the way are made.
pub fn with(pointer: &str, value: Value) -> Value {
    changed(&minimal(), pointer, value)
}

/// `spec` with the value at a JSON pointer set; objects on the way are made.
pub fn changed(spec: &Value, pointer: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    let mut at = &mut spec;
    for key in pointer.split('/').skip(1) {
        at = &mut at[key];
    }
    *at = value;
    spec
}

/// A document of that name and spec.
pub fn document(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": remotemount_crds::API_VERSION,
        "kind": remotemount_crds::KIND,
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// RemoteMounts of a namespace, untyped.
pub async fn untyped(plane: &ControlPlane, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(plane.client().await.unwrap(), namespace, &ApiResource::erase::<RemoteMount>(&()))
}

/// RemoteMounts of a namespace.
pub async fn typed(plane: &ControlPlane, namespace: &str) -> Api<RemoteMount> {
    Api::namespaced(plane.client().await.unwrap(), namespace)
}
