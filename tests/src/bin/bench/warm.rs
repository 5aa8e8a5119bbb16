//! Warm figures: one object that every side knows already, asked for by 64 callers over kept
//! connections.
//!
//! HEAD shows what a known entry costs; GET of 1 KiB what its bytes cost. Sides take turns in every
//! round. Next to the rate stands the server's own CPU time for a request: the load generator needs
//! a core for itself, so on a small machine rates meet its limit before the server's.

use anyhow::Result;

use crate::load::{self, Round};
use crate::table::{Figure, Rounds, Target};
use crate::{ROUNDS, Stage, say};

/// The object.
pub const KEY: &str = "warm.bin";
const BYTES: usize = 1024;
const HEADS: usize = 100_000;
const SLOW_HEADS: usize = 40_000;
const GETS: usize = 40_000;
const SLOW_GETS: usize = 6_000;

/// One side's rounds.
struct Side {
    rates: Rounds,
    cpu: Rounds,
}

impl Side {
    fn new() -> Side {
        Side { rates: Rounds::new(), cpu: Rounds::new() }
    }

    fn add(&mut self, round: Round) {
        self.rates.add(round.rate);
        self.cpu.add(round.cpu_micros);
    }
}

/// The object's bytes.
pub fn content() -> Vec<u8> {
    (0..=u8::MAX).cycle().take(BYTES).collect()
}

/// Puts the object.
pub async fn fill(stage: &Stage) -> Result<()> {
    stage.bucket.put(KEY, content(), Some("application/octet-stream")).await?;
    Ok(())
}

/// HEAD on three sides, GET on two.
pub async fn measure(stage: &Stage) -> Result<Vec<Figure>> {
    let ours = stage.sidecar.http_url(&format!("/direct/{KEY}"));
    let (theirs, file) = (stage.seaweed.url(KEY), stage.nginx.url(KEY));
    let (sidecar, seaweed, nginx) = (vec![stage.sidecar.pid()], vec![stage.seaweed.pid()], stage.nginx.workers()?);
    let target = |url, pids: &Vec<u32>, requests| load::Target { url, pids: pids.clone(), requests };
    // The first reads: all that comes now is known. SeaweedFS keeps the data a moment later.
    for url in [&ours, &theirs, &file] {
        for head in [true, false] {
            load::run(&stage.ab, head, 4, 400, url).await?;
        }
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;

    let (mut head, mut weed_head, mut nginx_head) = (Side::new(), Side::new(), Side::new());
    let (mut get, mut weed_get) = (Side::new(), Side::new());
    for round in 1..=ROUNDS {
        say(&format!("warm HEAD and GET, round {round} of {ROUNDS}"));
        head.add(load::round(&stage.ab, true, &target(&ours, &sidecar, HEADS)).await?);
        weed_head.add(load::round(&stage.ab, true, &target(&theirs, &seaweed, SLOW_HEADS)).await?);
        nginx_head.add(load::round(&stage.ab, true, &target(&file, &nginx, HEADS)).await?);
        get.add(load::round(&stage.ab, false, &target(&ours, &sidecar, SLOW_GETS)).await?);
        weed_get.add(load::round(&stage.ab, false, &target(&theirs, &seaweed, GETS)).await?);
    }
    let unit = "req/s";
    let mut figures = vec![
        Figure::ratio("warm HEAD, SeaweedFS", unit, &head.rates, &weed_head.rates, Target::RatioAtLeast(3.0))?,
        Figure::ratio("warm HEAD, nginx static", unit, &head.rates, &nginx_head.rates, Target::RatioAtLeast(0.7))?,
        Figure::ratio("warm 1 KiB GET, SeaweedFS", unit, &get.rates, &weed_get.rates, Target::RatioAtLeast(10.0))?,
    ];
    let unit = "µs";
    figures.extend([
        Figure::ratio("CPU of a warm HEAD, SeaweedFS", unit, &head.cpu, &weed_head.cpu, Target::None)?,
        Figure::ratio("CPU of a warm HEAD, nginx", unit, &head.cpu, &nginx_head.cpu, Target::None)?,
        Figure::ratio("CPU of a warm GET, SeaweedFS", unit, &get.cpu, &weed_get.cpu, Target::None)?,
    ]);
    Ok(figures)
}
