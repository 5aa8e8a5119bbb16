//! What an installer does: the CRD, what the operator may do, and the operator itself.
//!
//! It runs outside the cluster here, so the API server and sidecars find it by URLs in place of its
//! Service. What it may do is what `operator/deploy/` grants, and one thing it may not do is asked.

use anyhow::{Context as _, Result, ensure};
use remotemount_tests::operator::{ACCOUNT, NAMESPACE, Operator};

use super::tour::{Told, Tour, command, until};
use super::{Running, screen};
use crate::example::checkout;

/// Fields that `kubectl explain` is to have told of.
const EXPLAINED: [&str; 3] = ["deletePolicy", "-required-", "podSelector"];

pub async fn walk(tour: &mut Tour<'_>, running: &mut Running) -> Result<()> {
    screen::heading("Installing", &[]);
    let file = checkout("crds/remotemounts.yaml")?;
    tour.kubectl("The resource", &["apply", "--server-side", "-f", &file], says("serverside-applied")).await?;
    let established = ["wait", "--for=condition=Established", "crd/remotemounts.remotemount.dev"];
    tour.kubectl("Until it is served", &established, says("condition met")).await?;

    let title = "The operator's namespace, at the restricted level of Pod Security";
    namespace(tour, title, NAMESPACE).await?;
    let folder = checkout("operator/deploy")?;
    let title = "What it may do, its webhook, and the policy that keeps sidecars whole";
    tour.kubectl(title, &["apply", "--server-side", "-f", &folder], |printed| {
        let objects = printed.lines().filter(|line| line.ends_with("serverside-applied")).count();
        ensure!(objects == printed.lines().count(), "not all of it was applied");
        Ok(format!("{objects} objects"))
    })
    .await?;
    let who = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let question = ["auth", "can-i", "get", "secrets", "--namespace=default", "--as", &who];
    let plane = tour.plane;
    let work = async {
        // It says no by its exit code too.
        let said = plane.kubectl(&question).await?;
        ensure!(said.stdout.trim() == "no", "it may: {}{}", said.stdout, said.stderr);
        Ok(Told::text(&said.stdout, "the operator never reads a mount's Secret"))
    };
    tour.step("May it read Secrets?", &format!("$ {}", command(&question)), work).await?;
    start(tour, running).await?;
    explain(tour).await
}

/// Makes a namespace that takes pods of the strictest level only.
pub async fn namespace(tour: &mut Tour<'_>, title: &str, name: &str) -> Result<()> {
    let (create, label) =
        (["create", "namespace", name], ["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"]);
    let plane = tour.plane;
    let work = async {
        plane.kubectl(&create).await?.success()?;
        Ok(Told::only(plane.kubectl(&label).await?.success()?.trim()))
    };
    tour.step(title, &format!("$ {}\n$ {}", command(&create), command(&label)), work).await
}

async fn start(tour: &mut Tour<'_>, running: &mut Running) -> Result<()> {
    let plane = tour.plane;
    // Its ports are chosen as it starts, so it is started before its command is shown, and waited for after.
    let mut operator = Operator::start_unready(plane, &[]).await?;
    let shown = wrapped("remotemount-operator", &operator.arguments());
    let work = async {
        operator.wait_ready().await?;
        let ca = ["get", "mutatingwebhookconfiguration", "remotemount", "-o", "jsonpath={.webhooks[0].clientConfig}"];
        let trusted = async || Ok(plane.kubectl(&ca).await?.success()?.contains("caBundle"));
        until("the API server has the operator's CA", trusted).await?;
        Ok(Told::only(format!("pid {}, ready; the API server has its CA", operator.pid())))
    };
    let title = "The operator, with the token of its own ServiceAccount";
    tour.step(title, &shown, work).await?;
    running.operator = Some(operator);
    Ok(())
}

async fn explain(tour: &mut Tour<'_>) -> Result<()> {
    let plane = tour.plane;
    let question = ["explain", "remotemount.spec"];
    let work = async {
        // The API server describes a new resource about a second after it serves it.
        until("kubectl explains it", async || Ok(plane.kubectl(&question).await?.status.success())).await?;
        let text = plane.kubectl(&question).await?.success()?;
        for word in EXPLAINED {
            ensure!(text.contains(word), "it says nothing of {word}: {text}");
        }
        let fields: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("FIELDS")).collect();
        let at = fields.iter().position(|line| line.contains("deletePolicy")).context("no deletePolicy")?;
        let lines = fields.iter().skip(at).take(12).map(|line| (*line).to_owned()).collect();
        Ok(Told { lines, answer: format!("12 of {} lines", text.lines().count()) })
    };
    tour.step("What can be said of a mount", &format!("$ {}", command(&question)), work).await
}

/// A program and its arguments over several lines, a flag and its value in each.
pub fn wrapped(program: &str, arguments: &[String]) -> String {
    let mut line = format!("$ {program}");
    let mut lines = Vec::new();
    for argument in arguments {
        if line.len() + argument.len() > 110 && argument.starts_with("--") {
            lines.push(line + " \\");
            line = " ".repeat(3);
        }
        line = line + " " + argument;
    }
    lines.push(line);
    lines.join("\n")
}

/// Something that printed these words.
pub fn says(words: &str) -> impl FnOnce(&str) -> Result<String> {
    move |printed| {
        ensure!(printed.contains(words), "it does not say {words:?}");
        Ok(words.to_owned())
    }
}
