//! Our container into one of the same name that the pod has already.
//!
//! What stands there wins, ours fills the rest: a user gives the image, resources or variables of a
//! container named `remotemount`, and a pod that was injected before stays as it is. Lists are filled by
//! name (`env`) and by path (`volumeMounts`); probes and `args` are taken whole or left whole, since half of
//! one and half of another is neither. Only `restartPolicy` is ours in any case: without it the pod would
//! wait for the sidecar to end.

use serde_json::{Map, Value};

/// Fills `theirs` with what it lacks of `ours`.
pub(super) fn fill(theirs: &mut Map<String, Value>, ours: Map<String, Value>) {
    for (field, value) in ours {
        match (field.as_str(), theirs.get_mut(&field)) {
            ("restartPolicy", _) => {
                theirs.insert(field, value);
            }
            ("env", Some(Value::Array(list))) => fill_list(list, value, "name"),
            ("volumeMounts", Some(Value::Array(list))) => fill_list(list, value, "mountPath"),
            ("securityContext", Some(Value::Object(context))) => {
                for (key, value) in value.as_object().cloned().unwrap_or_default() {
                    context.entry(key).or_insert(value);
                }
            }
            (_, Some(there)) if !is_empty(there) => {}
            (_, _) => {
                theirs.insert(field, value);
            }
        }
    }
}

/// Adds to `list` those of `more` whose `key` it does not have.
fn fill_list(list: &mut Vec<Value>, more: Value, key: &str) {
    let Value::Array(more) = more else { return };
    for item in more {
        if !list.iter().any(|there| there.get(key) == item.get(key)) {
            list.push(item);
        }
    }
}

/// Whether the API server shows a field so that nobody gave: `resources: {}`, `image: ""`.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether `there` says all that `ours` does; the API server adds defaults to what it was given.
pub(super) fn covers(there: &Value, ours: &Value) -> bool {
    match (there, ours) {
        (Value::Object(there), Value::Object(ours)) => {
            ours.iter().all(|(key, value)| there.get(key).is_some_and(|there| covers(there, value)))
        }
        (Value::Array(there), Value::Array(ours)) => {
            there.len() == ours.len() && there.iter().zip(ours).all(|(there, ours)| covers(there, ours))
        }
        (there, ours) => there == ours,
    }
}
