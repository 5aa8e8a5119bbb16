//! `make bench`: ratios against SeaweedFS's filer, nginx and the bucket itself, in one run.
//!
//! Sets up all sides over one bucket on one machine, measures them in turns, so that whatever else
//! the machine does meets all of them, and writes `bench/results.md`. `bench/README.md` says what
//! each figure means. A target that is missed is a "no" in the table; only what could not be measured
//! is an error.
//!
//! Needs nginx and ab (ApacheBench); all else is the harness's. Nothing is left running.
#![forbid(unsafe_code)]

mod cold;
mod delete;
mod load;
mod machine;
mod nginx;
mod own;
mod seaweed;
mod table;
mod warm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use remotemount_tests::bucket::Bucket;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::sidecar::Sidecar;
use remotemount_tests::tools;
use tempfile::TempDir;

use crate::nginx::Nginx;
use crate::seaweed::Seaweed;

const BUCKET: &str = "bench";
/// Rounds of every figure that is measured in turns.
pub const ROUNDS: usize = 3;
/// How long a fresh entry stays fresh here: longer than any run.
const HOUR: u64 = 3600;

/// All sides.
pub struct Stage {
    /// ApacheBench.
    pub ab: PathBuf,
    /// The bucket, reached without the proxy.
    pub bucket: Bucket,
    /// In front of the bucket; its latency is set where a figure says so.
    pub proxy: Proxy,
    /// The bucket twice: `/data` through the proxy, `/direct` without.
    pub sidecar: Sidecar,
    /// SeaweedFS's filer with the bucket, through the proxy.
    pub seaweed: Seaweed,
    /// nginx with one file of the same size as the warm object.
    pub nginx: Nginx,
    /// For figures taken one request at a time.
    pub client: reqwest::Client,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Leaving through here drops, and so ends, whatever was started.
    tokio::select! {
        outcome = run() => match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn run() -> Result<()> {
    let (ab, nginx) = (load::program("ab")?, load::program("nginx")?);
    if cfg!(debug_assertions) {
        println!("This is a debug build: its figures say nothing. Run make bench.\n");
    }
    let weed = tools::bin("weed")?;
    let machine = machine::describe(&weed, &nginx);
    println!("{machine}\n");

    say("the S3 server, SeaweedFS's filer, nginx and the sidecar start");
    let folder = TempDir::with_prefix("remotemount-bench-").context("making a temporary folder")?;
    let remote_folder = under(&folder, "remote")?;
    let server = S3Server::start(Kind::Weed, &remote_folder).await?;
    let proxy = Proxy::start(&server.endpoint()).await?;
    let bucket = Bucket::create(&server.endpoint(), BUCKET).await?;
    let seaweed = Seaweed::start(&weed, &under(&folder, "filer")?, &proxy.endpoint(), BUCKET).await?;
    let nginx = Nginx::start(&nginx, &under(&folder, "nginx")?, warm::KEY, &warm::content()).await?;
    let sidecar = Sidecar::builder()
        .mount(&mount("data", &proxy.endpoint()).delete_policy("Propagate"))
        .mount(&mount("direct", &server.endpoint()))
        .start()
        .await?;
    let client = reqwest::Client::builder().no_proxy().build().context("making an HTTP client")?;
    let stage = Stage { ab, bucket, proxy, sidecar, seaweed, nginx, client };

    say("the bucket is filled");
    warm::fill(&stage).await?;
    cold::fill(&stage).await?;
    own::fill(&stage).await?;

    let mut figures = warm::measure(&stage).await?;
    figures.extend(cold::heads(&stage).await?);
    figures.push(cold::reads(&stage).await?);
    figures.push(cold::reads_over_a_link(&stage).await?);
    figures.push(Box::pin(delete::files(&stage)).await?);
    figures.push(own::misses(&stage).await?);
    figures.extend(own::starts(&stage.proxy).await?);
    // At the end: a filer that was given up may still be deleting.
    figures.extend(delete::trees(&stage).await?);

    let table = table::render(&figures);
    println!("\n{table}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/results.md");
    let text = format!(
        "# Results\n\nWritten by `make bench`; [README.md](README.md) says what each figure means. \
         Medians, with the least and the greatest in parentheses.\n\n{machine}\n\n{table}"
    );
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    let missed = figures.iter().filter(|figure| figure.reached() == Some(false)).count();
    println!("{missed} of the targets missed; written to {}", file.canonicalize().unwrap_or(file).display());
    Ok(())
}

/// The bucket at `/<name>`, its metadata good for the whole run.
pub fn mount(name: &str, endpoint: &str) -> Manifest {
    Manifest::new(name, &format!("/{name}"), BUCKET, endpoint, "").ttl_seconds(HOUR)
}

/// What goes on now.
pub fn say(what: &str) {
    println!("… {what}");
}

fn under(folder: &TempDir, name: &str) -> Result<PathBuf> {
    let path = folder.path().join(name);
    std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
    Ok(path)
}
