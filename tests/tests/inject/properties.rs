//! Whatever the pod: injection is idempotent, its patch makes of the pod what it says, and nothing goes.

use proptest::prelude::*;
use remotemount_operator::inject::documents::Documents;
use remotemount_operator::inject::{inject, patch};
use serde_json::{Map, Value, json};

use crate::stage::{self, NAMESPACE, mount};

/// Any JSON, not deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/~.\"é ]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z/~]{0,5}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn container() -> impl Strategy<Value = Value> {
    let names = prop_oneof![Just("app"), Just("istio-proxy"), Just("fetch"), Just("log")];
    let env = prop::option::of(prop::collection::vec(
        prop_oneof![Just("REMOTEMOUNT_URL"), Just("AWS_REGION"), Just("AWS_ENDPOINT_URL_S3"), Just("MODE")],
        0..3,
    ));
    (names, env, prop::collection::btree_map("x[a-z/~]{0,4}", any_json(), 0..3)).prop_map(|(name, env, more)| {
        let mut container: Map<String, Value> = more.into_iter().collect();
        container.insert("name".into(), json!(name));
        if let Some(env) = env {
            let env: Vec<Value> = env.into_iter().map(|name| json!({"name": name, "value": "theirs"})).collect();
            container.insert("env".into(), json!(env));
        }
        Value::Object(container)
    })
}

/// A document of a kind that is none of ours, with texts that YAML takes for something else.
fn any_document() -> impl Strategy<Value = Value> {
    let odd = prop::sample::select(vec![
        "yes",
        "No",
        "on",
        "~",
        "null",
        "0777",
        "0o17",
        "1e3",
        "1_000",
        "1:30",
        ".5",
        "0x1F",
        "-",
        "? a",
        "a: b",
        "a #b",
        "%x",
        "---",
        "...",
        "|",
        ">-",
        "&a",
        "*a",
        "!t",
        "'",
        "\"",
        "@",
        "`",
        "",
        " ",
        " a",
        "a ",
        "a\nb",
        "a\n\n",
        "\n",
        "\t",
        "a\tb\n c",
        "=",
        "<<",
        "2001-01-01",
        ".inf",
        "NaN",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{7}",
        "\r\n",
    ]);
    let text = prop_oneof![odd.prop_map(str::to_owned), any::<String>(), "([a-z ]{1,60}\n?){0,5}"];
    let value = prop_oneof![2 => text.clone().prop_map(Value::from), 1 => any_json()];
    prop::collection::btree_map(text, value, 0..5)
        .prop_map(|data| json!({"kind": "Settings", "data": Value::Object(data.into_iter().collect())}))
}

/// A user's container of our name, with some fields of its own.
fn own() -> impl Strategy<Value = Value> {
    (prop::option::of("img[a-z]"), any::<bool>(), any::<bool>()).prop_map(|(image, env, empty)| {
        let mut container = json!({"name": "remotemount", "image": image});
        if env {
            container["env"] = json!([{"name": "POD_NAME", "value": "theirs"}, {"name": "MORE", "value": "x"}]);
            container["securityContext"] = json!({"runAsUser": 7});
        }
        if empty {
            container["resources"] = json!({});
            container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        }
        container
    })
}

fn any_pod() -> impl Strategy<Value = Value> {
    (
        prop::collection::vec(container(), 1..4),
        prop::option::of(prop::collection::vec(prop_oneof![4 => container(), 1 => own()], 0..4)),
        prop::collection::btree_map("x[a-z/~]{0,4}", any_json(), 0..3),
        prop::option::of(Just(json!([{"name": "remotemount-state", "emptyDir": {}}, {"name": "v"}]))),
    )
        .prop_map(|(containers, inits, more, volumes)| {
            let mut spec: Map<String, Value> = more.clone().into_iter().collect();
            spec.insert("containers".into(), Value::from(containers));
            for (key, list) in [("initContainers", inits.map(Value::from)), ("volumes", volumes)] {
                if let Some(list) = list {
                    spec.insert(key.into(), list);
                }
            }
            let mut annotations: Map<String, Value> = Map::new();
            for key in more.keys() {
                annotations.insert(key.clone(), json!("theirs"));
            }
            json!({
                "metadata": {"labels": {"remotemount.dev/inject": "true"}, "annotations": annotations},
                "spec": spec,
            })
        })
}

/// Whether `after` has all of `before`, lists in their order with others between them.
fn kept(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.iter().all(|(key, value)| after.get(key).is_some_and(|after| kept(value, after)))
        }
        (Value::Array(before), Value::Array(after)) => {
            let mut rest = after.iter();
            before.iter().all(|value| rest.any(|after| kept(value, after)))
        }
        // What nobody gave is filled: `image: null`, `resources: {}`.
        (Value::Null, _) => true,
        (before, after) => before == after,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_means_the_same_when_it_is_printed(document in any_document()) {
        let settings = stage::settings();
        let mut documents = Documents::default();
        documents.read("a", &format!("{document}\n---\n{document}")).unwrap();
        let printed = documents.inject(NAMESPACE, &[], &settings).unwrap().text;
        let read: Vec<Value> = serde_saphyr::from_multiple(&printed).unwrap();
        prop_assert_eq!(read, vec![document.clone(), document], "{}", printed);
    }

    #[test]
    fn any_pod_comes_out_whole(pod in any_pod(), s3 in any::<bool>()) {
        let expose = if s3 { json!({"http": {"port": 8888}, "s3": {"port": 8333}}) } else { json!({"http": {"port": 8888}}) };
        let secret = json!({"secretRef": {"name": "s3-creds"}});
        let mounts = [mount("images", "/images", &json!({"expose": expose, "credentials": secret}))];
        let settings = stage::settings();
        let once = inject(&pod, NAMESPACE, &mounts, &settings).unwrap().unwrap().pod;
        prop_assert!(kept(&pod, &once), "gone from {pod} in {once}");
        let twice = inject(&once, NAMESPACE, &mounts, &settings).unwrap().unwrap().pod;
        prop_assert_eq!(&twice, &once);
        prop_assert!(patch::patch(&once, &twice).0.is_empty());

        // The patch travels as JSON and is applied by somebody else.
        let text = serde_json::to_vec(&patch::patch(&pod, &once)).unwrap();
        let mut applied = pod.clone();
        json_patch::patch(&mut applied, &serde_json::from_slice::<json_patch::Patch>(&text).unwrap()).unwrap();
        prop_assert_eq!(&applied, &once);

        let sidecars: Vec<_> = once["spec"]["initContainers"].as_array().unwrap().iter()
            .filter(|container| container["name"] == "remotemount").collect();
        prop_assert!(!sidecars.is_empty() && sidecars[0]["restartPolicy"] == "Always");
    }
}
