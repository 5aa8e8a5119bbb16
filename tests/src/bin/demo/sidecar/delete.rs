//! The deleting steps of the demo: a policy, one file, another writer, directories, a key that is denied.
//!
//! Each step gives its order at the sidecar's real door and then looks into the bucket itself, past the
//! proxy, so that looking is not counted. What denies a key is the S3 server, by a bucket policy, in the
//! way it would towards any client; the demo breaks nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use remotemount_tests::bucket::Bucket;
use serde_json::Value;

use super::visit::{Cost, LOOKUP, NOTHING};
use super::walk::{ONE_GET, ONE_LIST, Walk, absent, json, list};
use crate::fill;

const ONE_DELETE: Cost = Cost { delete: 1, ..NOTHING };
/// How the manifest says that nothing is deleted, and that deletes reach the bucket.
const DENY: &str = "deletePolicy: Deny\n";
const PROPAGATE: &str = "deletePolicy: Propagate\n";
/// How long a change of the manifest may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(10);

/// What came back of a delete.
struct Answer {
    status: u16,
    /// `X-RemoteMount-Deleted`
    deleted: Option<usize>,
    /// The body of an error.
    told: Value,
}

impl Walk<'_> {
    /// Takes the steps that delete; `yaml` is the manifest in force. How many files they should have taken away.
    pub async fn delete(&mut self, bucket: &Bucket, yaml: &str) -> usize {
        let (url, mounts) = (self.sidecar.http_url(""), self.sidecar.mounts_dir().display().to_string());
        self.visit.heading(&format!("Deleting, with F={url}\n          and M={mounts}"));
        self.policy(yaml).await;
        self.files(bucket).await;
        self.another_writer(bucket).await;
        self.trees(bucket).await;
        self.denied_key(bucket).await;
        let files = 2 + 2 * fill::pictures_of_a_year();
        self.deletes_status(files).await;
        files
    }

    async fn policy(&mut self, yaml: &str) {
        let (path, client) = (self.path(&fill::picture(2019, 0, 0)), self.visit.client.clone());
        let url = self.url(&path);
        let mut why = String::new();
        let work = async { refused(order(&client, &url).await?, 403, "DeleteDenied", &mut why) };
        let title = "A delete, while the manifest says deletePolicy: Deny, as it does by default";
        self.visit.step(title, &format!("curl -X DELETE $F{path}"), NOTHING, work).await;
        self.visit.note(&why);

        let (sidecar, name) = (self.sidecar, self.example.name.clone());
        let work = async {
            ensure!(yaml.matches(DENY).count() == 1, "the manifest does not say {DENY:?} once");
            sidecar.write_manifest(&name, &yaml.replace(DENY, PROPAGATE))?;
            let deadline = Instant::now() + IN_FORCE;
            loop {
                let mount = json(&client, &sidecar.admin_url("/status")).await?["mounts"][0].take();
                // The remote is the same, and known to answer: it is not probed again.
                if mount["deletes"]["policy"] == "Propagate" && mount["health"]["reachable"] == true {
                    break;
                }
                ensure!(Instant::now() < deadline, "not in force after {IN_FORCE:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok("in force, by /status; nothing was restarted".to_owned())
        };
        let command = format!("sed -i \"s/deletePolicy: Deny/deletePolicy: Propagate/\" $M/{}.yaml", self.example.name);
        self.visit.step("The manifest is switched to Propagate", &command, NOTHING, work).await;
    }

    async fn files(&mut self, bucket: &Bucket) {
        let client = self.visit.client.clone();
        let first = Cost { head: 1, delete: 2, ..NOTHING };
        let titles = ["A file; the first delete finds out whether the server heeds If-Match", "Another file"];
        for (n, (title, cost)) in titles.into_iter().zip([first, ONE_DELETE]).enumerate() {
            let key = fill::picture(2019, 0, n);
            let path = self.path(&key);
            let url = self.url(&path);
            let work = async { gone(&order(&client, &url).await?, 1) };
            let look = Box::pin(async {
                ensure!(bucket.head(&key).await?.is_none(), "{key} is still in the bucket");
                Ok("; gone in the bucket".to_owned())
            });
            let command = format!("curl -i -X DELETE $F{path}");
            self.visit.step_and_look(title, &command, cost, work, look).await;
        }
        let path = self.path(&fill::picture(2019, 0, 1));
        let url = self.url(&path);
        let command = format!("curl -I $F{path}");
        self.visit.step("What is gone there is gone here", &command, LOOKUP, absent(&client, &url)).await;
        let path = self.path("2019/album-00/");
        let (url, command) = (self.url(&path), format!("curl -H \"Accept: application/json\" $F{path}"));
        let left = fill::pictures() - 2;
        self.visit.step("Its directory, listed before", &command, NOTHING, list(&client, &url, left)).await;
    }

    async fn another_writer(&mut self, bucket: &Bucket) {
        let (key, client) = (fill::picture(2019, 0, 2), self.visit.client.clone());
        let path = self.path(&key);
        let url = self.url(&path);
        let new = "Another writer has put this, past the sidecar.\n";
        let mut why = String::new();
        let put = Box::pin(bucket.put(&key, new, None)).await;
        let work = async {
            put?;
            refused(order(&client, &url).await?, 409, "Conflict", &mut why)
        };
        let look = Box::pin(async {
            ensure!(bucket.get(&key).await? == new, "the bucket has not what the other writer put");
            Ok("; what the other put is still there".to_owned())
        });
        let cost = Cost { head: 1, ..ONE_DELETE };
        let title = "A file that another writer has replaced since it was listed";
        self.visit.step_and_look(title, &format!("curl -X DELETE $F{path}"), cost, work, look).await;
        self.visit.note(&why);
        let work = async {
            let got = client.get(&url).send().await?.error_for_status()?.text().await?;
            ensure!(got == new, "{got:?}; the other writer put {new:?}");
            Ok(format!("200, {:?}", got.trim_end()))
        };
        // The new version was shown to nobody yet: it is asked for when someone wants it.
        let cost = Cost { head: 1, ..ONE_GET };
        self.visit.step("The new version is shown from now on", &format!("curl $F{path}"), cost, work).await;
    }

    async fn trees(&mut self, bucket: &Bucket) {
        let client = self.visit.client.clone();
        let (path, all) = (self.path("2020"), fill::pictures_of_a_year());
        let url = self.url(&format!("{path}?recursive=true"));
        let work = async { gone(&order(&client, &url).await?, all) };
        // Two pages, each gone in one request, and the listing that shows that nothing is left.
        let cost = Cost { head: 1, list: 3, bulk: 2, ..NOTHING };
        let command = format!("curl -i -X DELETE \"$F{path}?recursive=true\"");
        let title = "A directory, with all below it, that nobody has listed";
        self.visit.step_and_look(title, &command, cost, work, Box::pin(empty(bucket, "2020/"))).await;
        for path in [self.path("2020"), self.path(&fill::picture(2020, 3, 33))] {
            let (url, command) = (self.url(&path), format!("curl -I $F{path}"));
            self.visit.step("What is gone there is gone here", &command, LOOKUP, absent(&client, &url)).await;
        }
        // Whoever looks around with KEEP would wonder.
        self.visit.note("listings may show its folders for a while: this S3 server keeps folders of its own, and");
        self.visit.note("tells of them until it has swept the empty ones; Amazon S3 has none");

        let path = self.path("2023/album-06");
        let url = self.url(&path);
        let mut why = String::new();
        let work = async { refused(order(&client, &url).await?, 409, "NotEmpty", &mut why) };
        let look = Box::pin(async {
            let left = bucket.keys("2023/album-06/").await?.len();
            ensure!(left == fill::pictures(), "{left} keys are left of {}", fill::pictures());
            Ok("; all of it is still in the bucket".to_owned())
        });
        let command = format!("curl -X DELETE $F{path}");
        self.visit.step_and_look("A directory, not recursive", &command, LOOKUP, work, look).await;
        self.visit.note(&why);
    }

    async fn denied_key(&mut self, bucket: &Bucket) {
        let client = self.visit.client.clone();
        let (path, denied, all) = (self.path("2022"), fill::picture(2022, 6, 45), fill::pictures_of_a_year());
        let url = self.url(&format!("{path}?recursive=true&ignoreRecursiveError=true"));
        let mut told = Value::Null;
        let denial = Box::pin(bucket.deny_delete(&denied)).await;
        let work = async {
            denial?;
            let answer = order(&client, &url).await?;
            ensure!(answer.status == 403, "{}: {}", answer.status, answer.told);
            told = answer.told;
            let counts = (told["deleted"].as_u64(), told["failed"].as_u64());
            ensure!(counts == (Some(all as u64 - 1), Some(1)), "other counts than {} and 1: {told}", all - 1);
            let named = told["failures"][0]["path"].as_str().unwrap_or_default();
            ensure!(named.ends_with(&denied), "it does not name {denied}: {told}");
            Ok(format!("403; {} deleted", all - 1))
        };
        let look = Box::pin(async {
            let left = bucket.keys("2022/").await?;
            ensure!(left == [denied.as_str()], "{} keys are left in the bucket, {:?} first", left.len(), left.first());
            Ok("; the bucket has that one left".to_owned())
        });
        let cost = Cost { head: 1, list: 2, bulk: 2, ..NOTHING };
        let command = format!("curl -X DELETE \"$F{path}?recursive=true&ignoreRecursiveError=true\"");
        let title = format!("A directory in which a policy of the bucket denies {denied}");
        self.visit.step_and_look(&title, &command, cost, work, look).await;
        for line in serde_json::to_string_pretty(&told).unwrap_or_default().lines() {
            self.visit.note(line);
        }

        let path = self.path("2022/album-06/");
        let (url, command) = (self.url(&path), format!("curl -H \"Accept: application/json\" $F{path}"));
        self.visit.step("What stayed there is shown here", &command, ONE_LIST, list(&client, &url, 1)).await;

        let path = self.path("2022");
        let url = self.url(&format!("{path}?recursive=true"));
        let allowed = Box::pin(bucket.allow_deletes()).await;
        let work = async {
            allowed?;
            gone(&order(&client, &url).await?, 1)
        };
        let cost = Cost { head: 1, list: 2, bulk: 1, ..NOTHING };
        let command = format!("curl -i -X DELETE \"$F{path}?recursive=true\"");
        let title = "The policy is gone, and the directory is deleted again";
        self.visit.step_and_look(title, &command, cost, work, Box::pin(empty(bucket, "2022/"))).await;
    }

    async fn deletes_status(&mut self, files: usize) {
        let (client, url) = (self.visit.client.clone(), self.sidecar.admin_url("/status"));
        let mut facts = Vec::new();
        let work = async {
            let status = json(&client, &url).await?;
            let mount = status["mounts"].get(0).context("no mount in it")?;
            for name in ["attempted", "objectsDeleted", "denied", "refused", "conflicts", "failed", "openIntents"] {
                facts.push((name, mount["deletes"][name].to_string()));
            }
            facts.push(("conditionalDelete", mount["capabilities"]["conditionalDelete"].to_string()));
            ensure!(mount["deletes"]["objectsDeleted"] == files, "objectsDeleted is not {files}");
            ensure!(mount["deletes"]["openIntents"] == 0, "a delete is not settled");
            Ok("200; in it:".to_owned())
        };
        self.visit.step("What the sidecar says of its deletes", &format!("curl {url}"), NOTHING, work).await;
        for (name, value) in facts {
            self.visit.note(&format!("{name:<20} {value:>9}"));
        }
    }
}

/// Orders a delete.
async fn order(client: &reqwest::Client, url: &str) -> Result<Answer> {
    let answer = client.delete(url).send().await?;
    let deleted = answer.headers().get("x-remotemount-deleted");
    let deleted = deleted.and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
    let (status, body) = (answer.status().as_u16(), answer.text().await?);
    let told = if body.is_empty() { Value::Null } else { serde_json::from_str(&body).context("reading the error")? };
    Ok(Answer { status, deleted, told })
}

/// The bucket has nothing below the prefix.
async fn empty(bucket: &Bucket, prefix: &str) -> Result<String> {
    let left = bucket.keys(prefix).await?;
    ensure!(left.is_empty(), "{} keys are left in the bucket, {:?} first", left.len(), left.first());
    Ok("; the bucket is empty below it".to_owned())
}

/// The delete is done, and says so of that many objects.
fn gone(answer: &Answer, objects: usize) -> Result<String> {
    ensure!(answer.status == 204, "{}: {}", answer.status, answer.told);
    ensure!(answer.deleted == Some(objects), "X-RemoteMount-Deleted: {:?} instead of {objects}", answer.deleted);
    Ok(format!("204, {objects} deleted"))
}

/// The delete is refused for that reason; `why` takes what the error says.
fn refused(answer: Answer, status: u16, reason: &str, why: &mut String) -> Result<String> {
    ensure!((answer.status, &answer.told["reason"]) == (status, &reason.into()), "{}: {}", answer.status, answer.told);
    *why = answer.told["error"].as_str().context("an error without words")?.to_owned();
    Ok(format!("{status}, {reason}"))
}
