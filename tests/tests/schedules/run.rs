//! Run: one schedule, step by step, on one thread.
//!
//! The filer, its store and its writer are the real ones. Whatever they wait for is given by a step:
//! a caller begins, a request is carried out, its answer arrives, what waits to be committed is
//! committed, another writer writes, time moves on. Between two steps every task runs until it waits
//! again, so the choice of steps is the schedule.

use std::sync::{Arc, Mutex, MutexGuard};

use remotemount_crds::{RemoteMount, manifest};
use remotemount_sidecar::clock;
use remotemount_sidecar::filer::Filer;
use remotemount_sidecar::metrics::Metrics;
use remotemount_sidecar::mounts::Mounts;
use remotemount_sidecar::remote::conditional::Conditional;
use remotemount_sidecar::remote::connect::Connected;
use remotemount_sidecar::remote::{ErrorKind, Remote};
use remotemount_sidecar::store::memory::MemoryStore;
use remotemount_sidecar::store::writer::Committer;
use remotemount_sidecar::store::{Store, Writer};
use remotemount_tests::manifest::Manifest;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::history::{Outcome, Record};
use crate::perform::perform;
use crate::plan::{KEYS, NAME, Op, Plan};
use crate::world::{Fault, Question, Simulated, World};

/// Where the clock begins; any time will do.
const BEGIN: u64 = 1_700_000_000_000_000_000;
/// Steps after which a schedule does not end any more.
const ENDLESS: u64 = 5_000;
const MILLI: u64 = 1_000_000;

/// What all schedules share.
pub struct Kit {
    metrics: Metrics,
    manifest: RemoteMount,
}

impl Kit {
    pub fn new() -> Self {
        let manifest = Manifest::new("m", "/m", "bucket", "http://none", "").delete_policy("Propagate").to_yaml();
        let manifest = manifest::parse(manifest.as_bytes()).unwrap().remove(0);
        Self { metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()), manifest }
    }
}

/// The process, as far as it dies with a crash.
struct Process {
    runtime: Runtime,
    filer: Filer,
    committer: Committer,
    callers: Vec<(usize, JoinHandle<()>)>,
    settling: CancellationToken,
}

/// One schedule under way.
pub struct Run<'k> {
    kit: &'k Kit,
    pub plan: Plan,
    chance: Chance,
    pub world: Arc<Mutex<World>>,
    pub store: Arc<MemoryStore>,
    process: Option<Process>,
    clock: u64,
    /// How far each script is, and its call under way.
    scripts: Vec<(usize, Option<usize>)>,
    healthy: bool,
}

/// What may happen next.
#[derive(Clone, Copy)]
enum Step {
    Begin(usize),
    Effect(usize),
    Answer(usize),
    Commit,
    Write,
    Tick,
    Settle,
    Leave(usize),
    Crash,
}

impl<'k> Run<'k> {
    pub fn new(kit: &'k Kit, plan: Plan, chance: Chance, traced: bool) -> Self {
        clock::hold(Some(BEGIN));
        let mut world = World::new(plan.server, plan.there, traced);
        world.note(|| format!("{plan:?}"));
        let mut run = Self {
            kit,
            chance,
            world: Arc::new(Mutex::new(world)),
            store: Arc::default(),
            process: None,
            clock: BEGIN,
            scripts: vec![(0, None); plan.scripts.len()],
            healthy: true,
            plan,
        };
        run.boot();
        run
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    pub fn filer(&mut self) -> Filer {
        self.process().filer.clone()
    }

    fn boot(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().event_interval(10_000).build();
        let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(&self.store);
        let remote: Arc<dyn Remote> = Arc::new(Conditional::new(Simulated(Arc::clone(&self.world))));
        let mut manifest = self.kit.manifest.clone();
        let metadata = &mut manifest.spec.metadata;
        let seconds = |seconds: u64| i64::try_from(seconds).unwrap();
        metadata.ttl_seconds = seconds(self.plan.ttl);
        metadata.negative_ttl_seconds = seconds(self.plan.negative_ttl);
        metadata.listing_ttl_seconds = seconds(self.plan.listing_ttl);
        metadata.stale_if_error_seconds = seconds(self.plan.stale_if_error);
        let connected = Connected { remote, health: Arc::default() };
        let mounts = Mounts::with(&manifest, &connected, &*store, &self.kit.metrics).unwrap();
        let (writer, committer) = Writer::over(Arc::clone(&store));
        let filer = Filer::new(Arc::new(mounts), store, writer, self.kit.metrics.clone()).unwrap();
        let (runtime, settling) = (runtime.unwrap(), CancellationToken::new());
        self.process = Some(Process { runtime, filer, committer, callers: Vec::new(), settling });
    }

    /// The schedule, up to the moment when nothing moves any more.
    pub fn race(&mut self) {
        for op in self.plan.prelude.clone() {
            self.alone(op);
        }
        self.pass(self.plan.pause);
        self.healthy = false;
        loop {
            if !self.step(true) {
                break;
            }
            if self.world().step > ENDLESS {
                return self.world().wrong(|| "it does not end".to_owned());
            }
        }
        self.healthy = true;
        let unfinished = self.world().ops.iter().find(|record| record.outcome.is_none()).cloned();
        if let Some(record) = unfinished {
            self.world().wrong(|| format!("{record:?} never ends"));
        }
    }

    /// Asks for one thing while nothing else happens and nothing fails.
    pub fn alone(&mut self, op: Op) -> Option<Outcome> {
        let index = self.begin(op);
        self.quiet();
        self.world().ops[index].outcome.clone()
    }

    /// Begins to settle what deletes have left, as a process does at its start.
    pub fn settle(&mut self) {
        let (filer, stop) = (self.filer(), self.process().settling.clone());
        self.process().runtime.spawn(filer.settle(stop));
        self.drain();
    }

    /// Goes on until nothing moves any more.
    pub fn quiet(&mut self) {
        while self.step(false) {
            if self.world().step > ENDLESS {
                return self.world().wrong(|| "it does not end".to_owned());
            }
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, millis: u64) {
        self.clock += millis * MILLI;
        clock::hold(Some(self.clock));
        self.world().millis += millis;
        self.world().note(|| format!("{millis} ms pass"));
    }

    fn step(&mut self, racing: bool) -> bool {
        let mut steps: Vec<(u64, Step)> = Vec::with_capacity(16);
        let weights = self.plan.weights;
        {
            let world = self.world();
            for (at, call) in world.calls.iter().enumerate() {
                steps.push(match call.answer {
                    None => (weights.effect, Step::Effect(at)),
                    Some(_) => (weights.answer, Step::Answer(at)),
                });
            }
            if racing {
                for (script, (next, under_way)) in self.scripts.iter().enumerate() {
                    match under_way.filter(|at| world.ops[*at].outcome.is_none()) {
                        None if *next < self.plan.scripts[script].len() => {
                            steps.push((weights.begin, Step::Begin(script)));
                        }
                        Some(at) if self.plan.leavers > 0 => steps.push((1, Step::Leave(at))),
                        _ => {}
                    }
                }
            }
        }
        // What else may happen does not keep a schedule from being over.
        if steps.is_empty() {
            return self.commit();
        }
        steps.push((weights.commit, Step::Commit));
        if racing {
            let others = [
                (self.plan.writes, weights.writer, Step::Write),
                (self.plan.ticks, weights.tick, Step::Tick),
                (self.plan.settles, weights.settle, Step::Settle),
                (self.plan.crashes, 1, Step::Crash),
            ];
            steps.extend(others.iter().filter(|(left, ..)| *left > 0).map(|(_, weight, step)| (*weight, *step)));
        }
        let mut at = self.chance.below(steps.iter().map(|(weight, _)| weight).sum());
        let chosen = steps.iter().find(|(weight, _)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let Some((_, step)) = chosen else { return false };
        self.world().step += 1;
        self.take(*step);
        true
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Begin(script) => {
                let next = self.scripts[script].0;
                let op = self.plan.scripts[script][next];
                self.scripts[script] = (next + 1, Some(self.begin(op)));
            }
            Step::Effect(at) => {
                let fault = self.fault(at);
                self.world().effect(at, fault);
            }
            Step::Answer(at) => {
                self.world().answer(at);
                self.drain();
            }
            Step::Commit => drop(self.commit()),
            Step::Write => self.write(),
            Step::Tick => {
                self.plan.ticks -= 1;
                self.pass(self.plan.tick);
            }
            Step::Settle => {
                self.plan.settles -= 1;
                self.world().note(|| "the background task settles what is left".to_owned());
                self.settle();
            }
            Step::Leave(index) => {
                if self.chance.percent(self.plan.leavers) {
                    let callers = &mut self.process().callers;
                    callers.iter().filter(|(at, _)| *at == index).for_each(|(_, caller)| caller.abort());
                    self.world().finish(index, Outcome::Left);
                    self.drain();
                }
            }
            Step::Crash => self.crash(),
        }
    }

    /// Every task runs until it waits.
    fn drain(&mut self) {
        self.process().runtime.block_on(tokio::task::yield_now());
    }

    fn commit(&mut self) -> bool {
        let did = self.process().committer.turn();
        if did {
            self.world().step += 1;
            self.world().note(|| "what waits is committed".to_owned());
            self.drain();
        }
        did
    }

    fn write(&mut self) {
        self.plan.writes -= 1;
        let key = if self.chance.percent(75) { NAME } else { KEYS[1] };
        let (remove, again) = (self.chance.percent(35), self.chance.percent(20));
        let mut world = self.world();
        match world.version(key) {
            Some(_) if remove => world.remove(key),
            _ => world.put(key, again),
        }
    }

    fn fault(&mut self, at: usize) -> Fault {
        if self.healthy || !self.chance.percent(self.plan.faults) {
            return Fault::None;
        }
        let unclear = [ErrorKind::TimedOut, ErrorKind::Unavailable, ErrorKind::BrokeOff];
        let (unclear, clear) = (self.chance.of(&unclear), self.chance.of(&[ErrorKind::Denied, ErrorKind::Throttled]));
        let (kind, many) = (self.chance.below(6), self.chance.percent(50));
        match (&self.world().calls[at].question, kind) {
            (Question::Delete(keys), _) if keys.len() > 1 && many => {
                let done = kind < 2;
                Fault::Partly(if done || kind < 4 { unclear } else { clear }, done)
            }
            (Question::Delete(_), 0 | 1) => Fault::Lost(unclear),
            (Question::Delete(_), 2) => Fault::Late(unclear),
            (_, 3) => Fault::Refused(clear),
            _ => Fault::Refused(unclear),
        }
    }

    /// The process is killed and started again over what it had committed.
    fn crash(&mut self) {
        self.plan.crashes -= 1;
        self.process = None;
        {
            let mut world = self.world();
            world.note(|| "the process is killed".to_owned());
            let running: Vec<usize> = (0..world.ops.len()).filter(|at| world.ops[*at].end.is_none()).collect();
            let (now, millis) = (world.step, world.millis);
            for index in running {
                world.finish(index, Outcome::Left);
                (world.ops[index].end, world.ops[index].millis.1) = (Some(now), millis);
            }
        }
        let world = Arc::clone(&self.world);
        world.lock().unwrap().abandon(|| self.chance.percent(50));
        self.boot();
        self.settle();
    }

    fn begin(&mut self, op: Op) -> usize {
        let (world, filer) = (Arc::clone(&self.world), self.filer());
        let index = {
            let mut world = world.lock().unwrap();
            world.step += 1;
            let (index, begin) = (world.ops.len(), world.step);
            world.note(|| format!("#{index} {op:?} begins"));
            let millis = (world.millis, u64::MAX);
            world.ops.push(Record { op, begin, millis, end: None, outcome: None });
            index
        };
        let caller = self.process().runtime.spawn(async move {
            let outcome = perform(&filer, op).await;
            world.lock().unwrap().finish(index, outcome);
        });
        self.process().callers.push((index, caller));
        self.drain();
        index
    }
}
