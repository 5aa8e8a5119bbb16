//! Reads the last stages of the Dockerfile, so that the images of the tests are those of `docker build`.
//!
//! Owns the few instructions that such a stage may have: `FROM scratch`, `COPY --from=build`, `ENV`, `LABEL`,
//! `USER`, `ENTRYPOINT` and `CMD`, the last two as JSON lists. Anything else in one of these stages is an error: it
//! would be in the users' images and not in ours. What the build stage runs is not read; its files are looked up in
//! a map from the paths there to files here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::oci::{File, Image, Layer, Platform, Process};

/// The stage of that name as an image, `name`d with a tag; `built` says where a file of the build stage is here.
///
/// Each COPY is a layer, as Docker makes it.
///
/// # Errors
/// There is no such stage, it has an instruction that is not known here, or it copies what `built` does not have.
pub fn image(text: &str, stage: &str, name: &str, built: &BTreeMap<&str, PathBuf>) -> Result<Image> {
    let instructions = instructions(text);
    let start = format!("scratch AS {stage}");
    let mut found = instructions.iter().skip_while(|(word, rest)| !(word == "FROM" && *rest == start));
    found.next().with_context(|| format!("no stage FROM {start}"))?;
    let mut image = Image {
        name: name.to_owned(),
        platform: Platform::host(),
        process: Process::default(),
        labels: BTreeMap::new(),
        layers: Vec::new(),
    };
    for (word, rest) in found.take_while(|(word, _)| word != "FROM") {
        let wrong = || format!("{word} {rest}, in the stage {stage}");
        match word.as_str() {
            "COPY" => {
                let (from, to) = copied(rest).with_context(wrong)?;
                let host =
                    built.get(from).with_context(|| format!("the build stage has {from}, which is unknown here"))?;
                // Docker keeps the mode that the file has there.
                let mode = if to.contains("/bin/") { 0o755 } else { 0o644 };
                image.layers.push(Layer::gzip(vec![File::of_host(to, host, mode)]));
            }
            "ENV" => image
                .process
                .environment
                .extend(pairs(rest).with_context(wrong)?.map(|(name, value)| format!("{name}={value}"))),
            "LABEL" => image
                .labels
                .extend(pairs(rest).with_context(wrong)?.map(|(name, value)| (name.to_owned(), value.to_owned()))),
            "USER" => image.process.user = rest.clone(),
            "ENTRYPOINT" => image.process.entrypoint = serde_json::from_str(rest).with_context(wrong)?,
            "CMD" => image.process.command = serde_json::from_str(rest).with_context(wrong)?,
            _ => bail!("{} is not known", wrong()),
        }
    }
    Ok(image)
}

/// Each instruction's word and the rest of it, on one line.
fn instructions(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let whole = lines.join("\n").replace("\\\n", " ");
    let whole = whole.lines().filter_map(|line| line.trim().split_once(' '));
    whole.map(|(word, rest)| (word.to_uppercase(), rest.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

fn copied(rest: &str) -> Result<(&str, &str)> {
    let rest = rest.strip_prefix("--from=build ").context("not --from=build")?;
    let (from, to) = rest.split_once(' ').context("not one file to one place")?;
    ensure!(!to.contains(' ') && !to.ends_with('/'), "not one file to one place");
    Ok((from, to))
}

/// `name=value name="some value"`.
fn pairs(rest: &str) -> Result<impl Iterator<Item = (&str, &str)>> {
    let (mut rest, mut pairs) = (rest, Vec::new());
    while !rest.is_empty() {
        let (name, tail) = rest.split_once('=').context("no =")?;
        let (value, tail) = match tail.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').context("an open quote")?,
            None => tail.split_once(' ').unwrap_or((tail, "")),
        };
        pairs.push((name, value));
        rest = tail.trim_start();
    }
    Ok(pairs.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# FROM scratch AS a
FROM rust AS build
RUN make \
    all
FROM scratch AS a
LABEL one="of two" \
      # between
      two=2
COPY --from=build /out/a /usr/local/bin/a
ENV PATH=/usr/local/bin
USER 1:1
ENTRYPOINT ["a", "b"]
FROM scratch AS b
CMD ["run"]
"#;

    #[test]
    fn a_stage_is_read_and_no_other() {
        let built = BTreeMap::from([("/out/a", PathBuf::from("Cargo.toml"))]);
        let image = super::image(TEXT, "a", "a:1", &built).unwrap();
        assert_eq!(
            image.labels.into_iter().collect::<Vec<_>>(),
            [("one".to_owned(), "of two".to_owned()), ("two".to_owned(), "2".to_owned())]
        );
        let process = image.process;
        assert_eq!(
            (process.entrypoint.join(" "), process.user.as_str(), process.command.len()),
            ("a b".to_owned(), "1:1", 0)
        );
        assert_eq!((process.environment, image.layers.len()), (vec!["PATH=/usr/local/bin".to_owned()], 1));
        let other = super::image(TEXT, "b", "b:1", &built).unwrap();
        assert_eq!((other.process.command.join(" "), other.layers.len()), ("run".to_owned(), 0));
    }

    #[test]
    fn the_stages_that_are_shipped_are_of_this_version_and_run_as_nobody() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Dockerfile")).unwrap();
        for stage in ["operator", "sidecar"] {
            let program = format!("remotemount-{stage}");
            let out = format!("/out/{program}");
            let host = || PathBuf::from("Cargo.toml");
            let built = BTreeMap::from([(out.as_str(), host()), ("/etc/ssl/certs/ca-certificates.crt", host())]);
            let image = super::image(&text, stage, "it:1", &built).unwrap();
            assert_eq!(image.labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(image.labels["org.opencontainers.image.title"], program);
            assert_eq!((image.process.user.as_str(), image.process.entrypoint), ("65532:65532", vec![program]));
        }
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        let none = BTreeMap::new();
        let complaint = |text: &str| format!("{:#}", super::image(text, "a", "a:1", &none).unwrap_err());
        assert!(complaint("FROM scratch AS b").contains("no stage FROM scratch AS a"));
        assert!(complaint("FROM debian AS a").contains("no stage FROM scratch AS a"));
        assert!(complaint("FROM scratch AS a\nRUN x y").contains("RUN x y, in the stage a is not known"));
        assert!(complaint("FROM scratch AS a\nCOPY . /").contains("not --from=build"));
        assert!(complaint("FROM scratch AS a\nCOPY --from=build /a /b").contains("the build stage has /a"));
        assert!(complaint("FROM scratch AS a\nENTRYPOINT a b").contains("ENTRYPOINT a b"));
    }
}
