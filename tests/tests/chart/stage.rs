//! What every test stands on: Helm with and without a cluster, and what the chart renders, as objects.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use remotemount_tests::helm::{self, Helm};
use remotemount_tests::operator::NAMESPACE;
use remotemount_tests::tools;
use serde_json::{Value, json};

/// The release of most tests.
pub const RELEASE: &str = "remotemount";

/// A control plane with Helm.
pub struct Cluster {
    pub plane: ControlPlane,
    pub helm: Helm,
}

impl Cluster {
    /// One of the caller's own, with the namespace that the chart is installed in.
    pub async fn start(controllers: Controllers) -> Result<Self> {
        let plane = ControlPlane::start(controllers).await?;
        plane.create_namespace(NAMESPACE, &[("pod-security.kubernetes.io/enforce", "restricted")]).await?;
        let helm = Helm::new(Some(plane.kubeconfig()))?;
        Ok(Self { plane, helm })
    }

    /// Has the kinds of others that the chart can make objects of.
    pub async fn install_foreign_crds(&self) -> Result<()> {
        let folder = tools::foreign_crds()?;
        let folder = folder.to_str().context("the folder of CRDs is not text")?;
        self.plane.kubectl(&["apply", "--server-side", "-f", folder]).await?.success()?;
        self.plane
            .kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])
            .await?
            .success()?;
        Ok(())
    }

    /// Runs `helm ACTION RELEASE CHART -n NAMESPACE …`.
    pub async fn release(&self, action: &str, chart: &str, more: &[&str]) -> Result<String> {
        self.helm.run(&[&[action, RELEASE, chart, "-n", NAMESPACE], more].concat()).await?.success()
    }

    /// An object, or a list of them.
    pub async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.plane.kubectl(&[&["get", "-o", "json"], arguments].concat()).await?.success()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Everything there is, as `resource namespace/name`, but for events, which end by themselves.
    pub async fn everything(&self) -> Result<Vec<String>> {
        let kinds = self.plane.kubectl(&["api-resources", "--verbs=list", "-o", "name", "--cached=false"]).await?;
        let kinds: Vec<String> = kinds.success()?.lines().map(str::to_owned).collect();
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| !kind.starts_with("events")).collect();
        let list = self.get(&["-A", &kinds.join(",")]).await?;
        let mut all: Vec<String> = items(&list).iter().map(id).collect();
        all.sort();
        Ok(all)
    }
}

/// The chart's folder.
pub fn chart() -> String {
    helm::chart().to_str().expect("the chart's path is text").to_owned()
}

/// A file of this repository.
pub fn file(path: &str) -> PathBuf {
    helm::chart().join("../..").join(path)
}

/// What the chart renders with these values, hooks and tests included.
pub async fn render(helm: &Helm, values: &Value) -> Result<String> {
    render_as(helm, RELEASE, values).await
}

pub async fn render_as(helm: &Helm, release: &str, values: &Value) -> Result<String> {
    template(helm, release, values).await?.success()
}

/// What the chart complains of with these values.
pub async fn refused(helm: &Helm, values: &Value) -> Result<String> {
    template(helm, RELEASE, values).await?.failure()
}

async fn template(helm: &Helm, release: &str, values: &Value) -> Result<remotemount_tests::control_plane::Said> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), values.to_string())?;
    let path = file.path().to_str().context("a path is text")?;
    // The oldest that it is for; Helm has no cluster to ask here.
    helm.run(&["template", release, &chart(), "-n", NAMESPACE, "--kube-version", "1.30", "-f", path]).await
}

/// The objects in a text of YAML.
pub fn objects(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// The object of that kind and name.
pub fn object<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {:?}", objects.iter().map(id).collect::<Vec<_>>()))
}

/// An object as `kind namespace/name`.
pub fn id(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!("{} {}/{}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

/// The members of a list.
pub fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

/// Values with `value` at a path such as `webhook.port`.
pub fn at(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, key| json!({key: value}))
}

/// `more` laid over `values`, as Helm lays one file over another.
pub fn over(values: &mut Value, more: &Value) {
    match (values, more) {
        (Value::Object(values), Value::Object(more)) => {
            for (key, value) in more {
                over(values.entry(key).or_insert(Value::Null), value);
            }
        }
        (values, more) => values.clone_from(more),
    }
}
