//! Validate: whether a mount can be acted on. Pure.
//!
//! The API server has run the CRD's own rules; here are those that one object alone cannot show, and
//! those of an object that an older CRD let in. Whoever breaks one has to change something, so each
//! verdict says what. The older of two mounts at one path keeps it, so no new object can take a path
//! away from pods that use it.

use kube::ResourceExt as _;
use remotemount_crds::condition::{ConditionType, Reason};
use remotemount_crds::{RemoteMount, validate};

use crate::inject;

/// Why a mount is not acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason of the conditions.
    pub reason: Reason,
    /// What to change.
    pub message: String,
}

/// Judges `mount` beside the other mounts of its namespace.
///
/// # Errors
/// What the user has to change.
pub fn judge<'m>(mount: &RemoteMount, siblings: impl IntoIterator<Item = &'m RemoteMount>) -> Result<(), Refusal> {
    let problems = validate(&mount.spec);
    if !problems.is_empty() {
        let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return Err(Refusal { reason: Reason::Invalid, message });
    }
    if let Some(older) = siblings.into_iter().find(|other| same_path(mount, other) && older(other, mount)) {
        let message = format!(
            "the path {} is the RemoteMount {}'s, which is older: create this mount with another path, or delete that one",
            path(mount),
            older.name_any()
        );
        return Err(Refusal { reason: Reason::PathConflict, message });
    }
    if let Err(denial) = inject::usable(mount) {
        return Err(Refusal { reason: Reason::Invalid, message: denial.to_string() });
    }
    let remote = &mount.spec.remote;
    if let Some(provider) = remote.gcs.as_ref().map(|_| "gcs").or(remote.azure.as_ref().map(|_| "azure")) {
        let message =
            format!("spec.remote.{provider} is not served by this version: use s3, with an endpoint where needed");
        return Err(Refusal { reason: Reason::NotSupported, message });
    }
    Ok(())
}

/// Whether two mounts of one namespace claim one path; a trailing slash makes no other path (M1).
pub fn same_path(one: &RemoteMount, other: &RemoteMount) -> bool {
    one.namespace() == other.namespace() && one.name_any() != other.name_any() && path(one) == path(other)
}

fn path(mount: &RemoteMount) -> &str {
    match mount.spec.path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// Whether `one` was there before `other`; made in the same second, the one that has been accepted keeps the path, and
/// then the name decides. One that is being deleted still has its path: its sidecars serve it until it is gone.
fn older(one: &RemoteMount, other: &RemoteMount) -> bool {
    let key = |mount: &RemoteMount| {
        (mount.metadata.creation_timestamp.as_ref().map(|time| time.0), !accepted(mount), mount.name_any())
    };
    key(one) < key(other)
}

fn accepted(mount: &RemoteMount) -> bool {
    let conditions = mount.status.iter().flat_map(|status| &status.conditions);
    let accepted = ConditionType::Accepted.as_str();
    conditions.into_iter().any(|condition| condition.type_ == accepted && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use remotemount_crds::manifest;

    use super::*;

    fn mount(name: &str, path: &str, created: i64) -> RemoteMount {
        let text = format!(
            "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {{name: {name}, namespace: ns}}\nspec: {{path: {path}, remote: {{s3: {{bucket: bucket}}}}}}\n"
        );
        let mut mount = manifest::parse(text.as_bytes()).unwrap().remove(0);
        mount.metadata.creation_timestamp = Some(Time(Timestamp::from_second(created).unwrap()));
        mount
    }

    #[test]
    fn the_older_keeps_the_path() {
        let (old, new) = (mount("zebra", "/a", 1), mount("ant", "/a/", 2));
        assert_eq!(judge(&old, [&old, &new]), Ok(()));
        let refusal = judge(&new, [&old, &new]).unwrap_err();
        assert_eq!(refusal.reason, Reason::PathConflict);
        assert!(refusal.message.contains("zebra") && refusal.message.contains("/a"), "{}", refusal.message);
        let twin = mount("yak", "/a", 1);
        assert_eq!(judge(&twin, [&old]), Ok(()), "made in the same second, the name decides");
        assert!(judge(&old, [&twin]).is_err());
    }

    #[test]
    fn other_paths_and_other_namespaces_do_not_conflict() {
        let one = mount("one", "/a", 2);
        let mut elsewhere = mount("elsewhere", "/a", 1);
        elsewhere.metadata.namespace = Some("other".to_owned());
        assert_eq!(judge(&one, [&elsewhere, &mount("below", "/a/b", 1), &mount("beside", "/ab", 1)]), Ok(()));
        assert!(judge(&mount("root", "/", 2), [&mount("other-root", "/", 1)]).is_err());
    }

    #[test]
    fn what_would_refuse_every_pod_is_refused_itself() {
        let good = mount("good", "/a", 1);
        assert_eq!(judge(&good, []), Ok(()));
        let with = |change: serde_json::Value| {
            let mut value = serde_json::to_value(&good).unwrap();
            json_patch::merge(&mut value["spec"], &change);
            serde_json::from_value::<RemoteMount>(value).unwrap()
        };
        let memory = |memory: &str| serde_json::json!({"sidecar": {"resources": {"limits": {"memory": memory}}}});
        let selector = serde_json::json!({"podSelector": {"matchExpressions": [{"key": "a b", "operator": "Foo", "values": ["x"]}]}});
        let limit = serde_json::json!({"cache": {"sizeLimit": "99999999999999999E"}});
        for change in [memory("abc"), memory("-1"), selector, limit] {
            let refusal = judge(&with(change.clone()), []).expect_err(&change.to_string());
            assert_eq!(refusal.reason, Reason::Invalid, "{change}");
            assert!(refusal.message.contains("good"), "{}", refusal.message);
        }
    }

    #[test]
    fn what_cannot_be_served_says_what_to_change() {
        let mut gcs = mount("gcs", "/a", 1);
        gcs.spec.remote.s3 = None;
        gcs.spec.remote.gcs = Some(remotemount_crds::GcsRemote { bucket: "bucket".to_owned(), prefix: String::new() });
        assert_eq!(judge(&gcs, []).unwrap_err().reason, Reason::NotSupported);
        let mut broken = mount("broken", "/a", 1);
        broken.spec.path = "a".to_owned();
        let refusal = judge(&broken, []).unwrap_err();
        assert_eq!(refusal.reason, Reason::Invalid);
        assert!(refusal.message.starts_with("spec.path: "), "{}", refusal.message);
    }
}
