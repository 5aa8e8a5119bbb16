//! The names by which the parts find each other in a cluster: labels, annotations, objects, paths, the
//! audience of tokens.
//!
//! They are API: a user writes some of them into manifests, and parts of different versions meet by
//! them. Names made from a mount's name keep to the limits of Kubernetes: what would be too long is cut
//! and ends in a digest of the whole, so that no two mounts share one. Pure.

/// Label of a pod that asks for a sidecar; its value is [`INJECT_VALUE`].
pub const INJECT_LABEL: &str = "remotemount.dev/inject";
/// The value that asks.
pub const INJECT_VALUE: &str = "true";
/// Annotation of a pod: the mounts it wants, by name, with commas. Every matching mount when left out.
pub const MOUNTS_ANNOTATION: &str = "remotemount.dev/mounts";
/// Annotation that injection writes: the mounts of the pod's sidecar, by name, sorted, with commas.
pub const INJECTED_ANNOTATION: &str = "remotemount.dev/injected";
/// Label of what belongs to one mount; its value is [`mount_label`].
pub const MOUNT_LABEL: &str = "remotemount.dev/mount";
/// Label of what the operator made (Kubernetes recommended labels).
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The operator, as the value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "remotemount";
/// Holds a deleted mount until its propagation has stopped and its configuration is gone (X9).
pub const FINALIZER: &str = "remotemount.dev/cleanup";
/// The operator as a field manager.
pub const FIELD_MANAGER: &str = "remotemount-operator";
/// The audience of the tokens that sidecars present.
pub const AUDIENCE: &str = "remotemount.dev";

/// The sidecar's container.
pub const CONTAINER: &str = "remotemount";
/// The sidecar's program, found by PATH in its image.
pub const SIDECAR_PROGRAM: &str = "remotemount-sidecar";
/// A pod's volume with the manifests of its mounts.
pub const MOUNTS_VOLUME: &str = "remotemount-mounts";
/// A pod's volume with what the control link needs.
pub const CONTROL_VOLUME: &str = "remotemount-control";
/// A pod's volume with the sidecar's state. A user may bring one of this name.
pub const STATE_VOLUME: &str = "remotemount-state";
/// A pod's volumes with Secrets: this and a number, `remotemount-credentials-0`, in the order of the Secrets' names.
pub const CREDENTIALS_VOLUME: &str = "remotemount-credentials";
/// The ValidatingAdmissionPolicy that keeps the sidecar whole, and its binding.
pub const POLICY: &str = "remotemount-sidecar";
/// Key of a mount's ConfigMap that holds its manifest.
pub const MANIFEST_KEY: &str = "manifest.yaml";
/// The ConfigMap of the control link, one a namespace.
pub const CONTROL_CONFIG_MAP: &str = "remotemount-control";
/// Its key with the endpoint, as `https://host:port`.
pub const ENDPOINT_KEY: &str = "endpoint";
/// Its key with the certificates to trust, as PEM.
pub const CA_KEY: &str = "ca.crt";
/// The Secret of the operator's own CA, in the operator's namespace.
pub const CA_SECRET: &str = "remotemount-ca";
/// The Lease by which one operator leads.
pub const LEASE: &str = "remotemount-operator";
/// The MutatingWebhookConfiguration.
pub const WEBHOOK_CONFIGURATION: &str = "remotemount";
/// The webhook in it.
pub const WEBHOOK: &str = "pods.remotemount.dev";
/// The path of the webhook.
pub const WEBHOOK_PATH: &str = "/inject";

/// Where a sidecar finds its manifests.
pub const MOUNTS_DIRECTORY: &str = "/etc/remotemount/mounts";
/// Where a sidecar finds Secrets, one directory each.
pub const CREDENTIALS_DIRECTORY: &str = "/etc/remotemount/credentials";
/// Where a sidecar finds what the control link needs: `endpoint`, `ca.crt`, `token`.
pub const CONTROL_DIRECTORY: &str = "/etc/remotemount/control";
/// The token's file in [`CONTROL_DIRECTORY`].
pub const TOKEN_FILE: &str = "token";
/// Where a sidecar keeps its state.
pub const STATE_DIRECTORY: &str = "/var/lib/remotemount";

/// The longest name of an object (RFC 1123 subdomain).
const NAME_LIMIT: usize = 253;
/// The longest name of a file, less the ending.
const FILE_LIMIT: usize = 250;
/// The longest value of a label.
const LABEL_LIMIT: usize = 63;

/// The name of a mount's ConfigMap.
#[must_use]
pub fn config_map(mount: &str) -> String {
    within(format!("remotemount-mount-{mount}"), NAME_LIMIT)
}

/// The file of a mount's manifest in [`MOUNTS_DIRECTORY`].
#[must_use]
pub fn manifest_file(mount: &str) -> String {
    format!("{}.yaml", within(mount.to_owned(), FILE_LIMIT))
}

/// A mount's name as the value of [`MOUNT_LABEL`].
#[must_use]
pub fn mount_label(mount: &str) -> String {
    within(mount.to_owned(), LABEL_LIMIT)
}

/// The same name if it is short enough; else its beginning and a digest of the whole.
fn within(name: String, limit: usize) -> String {
    if name.len() <= limit {
        return name;
    }
    // FNV-1a: the digest has to be the same in every version, and nobody gains by a collision in their own namespace.
    let digest = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let kept = name.get(..limit - 17).unwrap_or_default().trim_end_matches(['-', '.']);
    format!("{kept}-{digest:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_limits_and_stay_apart() {
        assert_eq!(config_map("photos"), "remotemount-mount-photos");
        assert_eq!(mount_label("photos"), "photos");
        let long = |end: &str| format!("{}{end}", "x".repeat(240));
        for name in [config_map(&long("a")), mount_label(&long("a"))] {
            assert!(name.len() <= NAME_LIMIT && name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
        }
        assert!(mount_label(&long("a")).len() <= LABEL_LIMIT);
        assert_ne!(config_map(&long("a")), config_map(&long("b")));
        assert_ne!(mount_label(&long("a")), mount_label(&long("b")));
        assert_eq!(manifest_file("photos"), "photos.yaml");
        assert!(manifest_file(&"x".repeat(NAME_LIMIT)).len() <= 255);
        // The mount `control` does not meet the control link's own ConfigMap.
        assert_ne!(config_map("control"), CONTROL_CONFIG_MAP);
    }
}
