//! The effects of `inject`: files and standard input in, RemoteMounts from files or the cluster, text out.
//!
//! It asks the cluster only where no RemoteMount was given. Nothing is written to the cluster, and nothing to
//! a file: the documents go to standard output, notes to standard error.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kube::api::{Api, ListParams};
use remotemount_crds::{RemoteMount, manifest};

use super::Settings;
use super::documents::Documents;

/// What `inject` needs to know.
#[derive(Clone, Debug, clap::Args)]
pub struct InjectArgs {
    /// Files of YAML documents, `-` for standard input; RemoteMounts among them are used.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Files or directories of RemoteMounts; from the cluster when no RemoteMount is given.
    #[arg(long, value_name = "FILE|DIR")]
    mounts: Vec<PathBuf>,
    /// The namespace of documents that name none.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    #[command(flatten)]
    settings: Settings,
}

/// Prints the documents with their sidecars.
///
/// # Errors
/// When something cannot be read, or a pod cannot have its sidecar; then nothing is printed.
pub fn execute(args: &InjectArgs) -> anyhow::Result<()> {
    let mut documents = Documents::default();
    for file in &args.files {
        let (origin, text) = if file.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
            ("standard input".to_owned(), text)
        } else {
            let origin = file.display().to_string();
            let text = std::fs::read_to_string(file).with_context(|| origin.clone())?;
            (origin, text)
        };
        documents.read(&origin, &text)?;
    }
    let mut mounts = documents.mounts()?;
    for path in &args.mounts {
        mounts.extend(read(path)?);
    }
    if mounts.is_empty() && args.mounts.is_empty() {
        for namespace in documents.namespaces(&args.namespace) {
            mounts.extend(from_cluster(&namespace)?);
        }
    }
    let printed = documents.inject(&args.namespace, &mounts, &args.settings)?;
    for note in &printed.notes {
        eprintln!("{note}");
    }
    std::io::stdout().write_all(printed.text.as_bytes()).context("standard output")
}

/// The RemoteMounts of a file, or of the `*.yaml` and `*.yml` files of a directory.
fn read(path: &Path) -> anyhow::Result<Vec<RemoteMount>> {
    let said = || path.display().to_string();
    if !path.is_dir() {
        let bytes = std::fs::read(path).with_context(said)?;
        return manifest::parse(&bytes).with_context(said);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(said)?;
    files.retain(|file| file.is_file() && file.extension().is_some_and(|end| end == "yaml" || end == "yml"));
    files.sort();
    if files.is_empty() {
        bail!("{}: holds no *.yaml file", said());
    }
    let mut mounts = Vec::new();
    for file in files {
        mounts.extend(read(&file)?);
    }
    Ok(mounts)
}

fn from_cluster(namespace: &str) -> anyhow::Result<Vec<RemoteMount>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let listed = runtime.block_on(async {
        let client = kube::Client::try_default().await?;
        Api::<RemoteMount>::namespaced(client, namespace).list(&ListParams::default()).await
    });
    let context = || format!("RemoteMounts of namespace {namespace} from the cluster (or give them by --mounts)");
    Ok(listed.with_context(context)?.items)
}
