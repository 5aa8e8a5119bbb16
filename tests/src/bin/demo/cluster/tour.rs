//! One step of the tour: show the command, run it, show what it printed, check it.
//!
//! Owns the count of steps. A step that goes otherwise than it should is told of with its reason and ends
//! the tour: what comes after builds on it. `kubectl` is the real one, and is run with exactly the
//! arguments that are shown.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use remotemount_tests::control_plane::{ControlPlane, Said};
use serde_json::Value;

use crate::screen;

/// A wait that is over long before, unless something is wrong.
const LIMIT: Duration = Duration::from_secs(30);

/// What a step came to: lines to be shown, and what was found right, in a few words.
pub struct Told {
    /// What was printed.
    pub lines: Vec<String>,
    /// What it comes to.
    pub answer: String,
}

impl Told {
    /// A step that printed nothing.
    pub fn only(answer: impl Into<String>) -> Told {
        Told { lines: Vec::new(), answer: answer.into() }
    }

    /// A step that printed this text.
    pub fn text(text: &str, answer: impl Into<String>) -> Told {
        Told { lines: text.lines().map(str::to_owned).collect(), answer: answer.into() }
    }
}

/// The tour as far as it has come.
pub struct Tour<'p> {
    /// For orders at the sidecar.
    pub client: reqwest::Client,
    /// Where kubectl goes.
    pub plane: &'p ControlPlane,
    steps: usize,
    failed: bool,
}

impl<'p> Tour<'p> {
    /// The beginning.
    pub fn new(plane: &'p ControlPlane) -> Result<Tour<'p>> {
        // All of this is on loopback; a proxy from the environment would not find it.
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().context("making an HTTP client")?;
        Ok(Tour { client, plane, steps: 0, failed: false })
    }

    /// How many steps were taken, and whether the last went otherwise than it should.
    pub fn end(&self) -> (usize, bool) {
        (self.steps, self.failed)
    }

    /// Takes one step. `command` is what does the same by hand, with its prompts.
    pub async fn step(&mut self, title: &str, command: &str, work: impl Future<Output = Result<Told>>) -> Result<()> {
        self.steps += 1;
        screen::step(self.steps, title, command);
        let begun = Instant::now();
        let outcome = work.await;
        let elapsed = begun.elapsed();
        match outcome {
            Ok(told) => {
                told.lines.iter().for_each(|line| screen::note(line));
                screen::outcome(&told.answer, elapsed, &[], &[]);
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                screen::outcome("failed", elapsed, &[], &[format!("{error:#}")]);
                Err(error)
            }
        }
    }

    /// A step that is one kubectl; `check` says what is right about what it printed.
    pub async fn kubectl(
        &mut self,
        title: &str,
        arguments: &[&str],
        check: impl FnOnce(&str) -> Result<String>,
    ) -> Result<()> {
        let plane = self.plane;
        let work = async {
            let printed = plane.kubectl(arguments).await?.success()?;
            let answer = check(&printed).with_context(|| format!("it printed:\n{printed}"))?;
            Ok(Told::text(&printed, answer))
        };
        self.step(title, &format!("$ {}", command(arguments)), work).await
    }

    /// A step that applies a document, which is shown.
    pub async fn apply(&mut self, title: &str, yaml: &str) -> Result<()> {
        let plane = self.plane;
        let work = async { applied(plane.kubectl_with(&["apply", "-f", "-"], yaml).await?) };
        self.step(title, &here_document(yaml), work).await
    }

    /// A step in which a document is refused, for a reason with these words in it.
    pub async fn refused(&mut self, title: &str, yaml: &str, words: &str) -> Result<()> {
        let plane = self.plane;
        let work = async {
            let said = plane.kubectl_with(&["apply", "-f", "-"], yaml).await?.failure()?;
            ensure!(said.contains(words), "it was refused for another reason: {said}");
            Ok(Told::text(&said, "refused, with the reason"))
        };
        self.step(title, &here_document(yaml), work).await
    }

    /// `kubectl get rmt`, in which this row has these words.
    pub async fn table(&mut self, arguments: &[&str], row: &str, words: &[&str]) -> Result<()> {
        self.kubectl("The mounts", arguments, |table| {
            let row = table.lines().find(|line| line.split_whitespace().next() == Some(row));
            let row = row.with_context(|| "the row is missing")?;
            for word in words {
                ensure!(row.contains(word), "{word:?} is not in the row");
            }
            Ok(words.join(", "))
        })
        .await
    }
}

/// An object as it is now.
pub async fn get(plane: &ControlPlane, what: &[&str]) -> Result<Value> {
    let text = plane.kubectl(&[&["get", "-o", "json"], what].concat()).await?.success()?;
    serde_json::from_str(&text).context("reading what kubectl printed")
}

/// What an apply came to.
pub fn applied(said: Said) -> Result<Told> {
    // Warnings of the admission webhook are part of what a user sees.
    let warnings = said.stderr.clone();
    let printed = said.success()?;
    ensure!(!printed.trim().is_empty(), "kubectl said nothing");
    let answer = printed.lines().last().unwrap_or_default().to_owned();
    Ok(Told { lines: warnings.lines().map(str::to_owned).collect(), answer })
}

/// A page of JSON, such as a sidecar's `/status`.
pub async fn json(client: &reqwest::Client, url: &str) -> Result<Value> {
    Ok(client.get(url).send().await?.error_for_status()?.json().await?)
}

/// Until it holds; `what` is what does not, if it takes too long.
pub async fn until(what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<Duration> {
    within(LIMIT, what, holds).await
}

/// Until it holds, for which that long may pass.
pub async fn within(limit: Duration, what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<Duration> {
    let begun = Instant::now();
    while !holds().await? {
        if begun.elapsed() > limit {
            bail!("{what}: not so after {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(begun.elapsed())
}

/// A kubectl as it is typed.
pub fn command(arguments: &[&str]) -> String {
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c));
    let quoted = arguments.iter().map(|argument| match argument.split_once('=') {
        _ if plain(argument) => (*argument).to_owned(),
        Some((flag, value)) if plain(flag) => format!("{flag}='{value}'"),
        _ => format!("'{argument}'"),
    });
    quoted.fold("kubectl".to_owned(), |command, argument| command + " " + &argument)
}

fn here_document(yaml: &str) -> String {
    format!("$ kubectl apply -f - <<EOF\n{}\nEOF", yaml.trim_end())
}
