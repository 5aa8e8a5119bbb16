//! Plan: what a schedule is made of, before any of it has happened.
//!
//! A variant says which races are wanted; the seed chooses the rest: who asks for what in which order,
//! how long things are good for, how the server and the network behave, and which side is slow. Slow is
//! a weight: what rarely gets its turn is overtaken by everything else.

use crate::chance::Chance;

/// The name that all of it is about.
pub const NAME: &str = "d/n";
/// Another in the same directory.
pub const SIBLING: &str = "d/s";
/// Both.
pub const KEYS: [&str; 2] = [NAME, SIBLING];

/// Which races.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Deletes of the file, at a server that heeds conditions.
    File,
    /// Recursive deletes of the directory that holds it.
    Tree,
    /// Deletes of both kinds against each other.
    Deletes,
    /// The same as all of these, at a server that does not look at conditions.
    Heedless,
    /// Requests that fail, before or after they were carried out, or are carried out late.
    Faults,
    /// As `Faults`, and the process is killed in the middle.
    Crash,
}

/// One thing that a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Lookup(&'static str),
    /// As a door that needs the content type does.
    Describe(&'static str),
    LookupDirectory,
    List,
    DeleteFile(&'static str),
    DeleteTree,
}

impl Op {
    pub const fn is_delete(self) -> bool {
        matches!(self, Self::DeleteFile(_) | Self::DeleteTree)
    }

    /// Whether it is about the key.
    pub fn covers(self, key: &str) -> bool {
        match self {
            Self::Lookup(own) | Self::Describe(own) | Self::DeleteFile(own) => own == key,
            Self::List | Self::DeleteTree => true,
            Self::LookupDirectory => false,
        }
    }
}

/// How likely each kind of step is to be the next.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    pub begin: u64,
    pub effect: u64,
    pub answer: u64,
    pub commit: u64,
    pub writer: u64,
    pub tick: u64,
    pub settle: u64,
}

/// A schedule to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Done one after another before the race begins.
    pub prelude: Vec<Op>,
    /// How long passes then, in milliseconds.
    pub pause: u64,
    /// One script a caller.
    pub scripts: Vec<Vec<Op>>,
    pub weights: Weights,
    /// What another writer may do.
    pub writes: u64,
    /// How often time moves on, and how far each time, in milliseconds.
    pub ticks: u64,
    pub tick: u64,
    /// How often the background task looks for what is left of deletes.
    pub settles: u64,
    /// Requests of a hundred that fail.
    pub faults: u64,
    pub crashes: u64,
    /// Callers of a hundred that hang up.
    pub leavers: u64,
    pub ttl: u64,
    pub negative_ttl: u64,
    pub listing_ttl: u64,
    pub stale_if_error: u64,
    /// Which names are there at first.
    pub there: [bool; 2],
    pub server: Server,
}

/// What kind of server it is.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Looks at `If-Match`.
    pub heeds: bool,
    /// Answers a conditional delete of what is gone by "changed" (412), not by success.
    pub gone_is_changed: bool,
    /// Keys on a page.
    pub page: usize,
}

impl Plan {
    pub fn draw(variant: Variant, chance: &mut Chance) -> Self {
        let lenient = matches!(variant, Variant::Faults | Variant::Crash);
        let weight = |chance: &mut Chance| chance.of(&[1, 1, 3, 8]);
        let weights = Weights {
            begin: weight(chance),
            effect: weight(chance),
            answer: weight(chance),
            commit: weight(chance),
            writer: weight(chance),
            tick: weight(chance),
            settle: weight(chance),
        };
        let mut prelude = Vec::new();
        for _ in 0..chance.of(&[0, 1, 1, 2]) {
            prelude.push(chance.of(&[Op::Lookup(NAME), Op::Describe(NAME), Op::List]));
        }
        let deletes: &[Op] = match variant {
            Variant::File => &[Op::DeleteFile(NAME)],
            Variant::Tree => &[Op::DeleteTree],
            _ => &[Op::DeleteFile(NAME), Op::DeleteFile(NAME), Op::DeleteTree, Op::DeleteFile(SIBLING)],
        };
        let looks = [Op::Lookup(NAME), Op::Describe(NAME), Op::Describe(NAME), Op::List, Op::List, Op::LookupDirectory];
        let mut scripts = Vec::new();
        for _ in 0..chance.of(&[1, 2, 2, 3]) {
            scripts.push((0..chance.of(&[1, 2, 2, 3])).map(|_| chance.of(&looks)).collect());
        }
        for _ in 0..chance.of(if variant == Variant::Deletes { &[2, 3] } else { &[1, 1, 2] }) {
            let mut script = vec![chance.of(deletes)];
            if chance.percent(40) {
                script.push(chance.of(&looks));
            }
            if chance.percent(20) {
                script.push(chance.of(deletes));
            }
            scripts.push(script);
        }
        Self {
            prelude,
            pause: chance.of(&[0, 1, 2_000, 310_000]),
            scripts,
            weights,
            writes: chance.of(&[0, 0, 1, 2, 3]),
            ticks: chance.of(&[0, 2, 10, 40]),
            tick: chance.of(&[1, 1, 1, 1_100]),
            settles: if lenient { chance.of(&[0, 1, 2]) } else { 0 },
            faults: if lenient { chance.of(&[5, 20, 40]) } else { 0 },
            crashes: if variant == Variant::Crash { chance.of(&[1, 1, 2]) } else { 0 },
            leavers: chance.of(&[0, 0, 0, 15]),
            ttl: chance.of(&[0, 0, 1, 300]),
            negative_ttl: chance.of(&[0, 0, 10]),
            listing_ttl: chance.of(&[0, 0, 60]),
            stale_if_error: chance.of(&[0, 0, 3_600]),
            there: [chance.percent(90), chance.percent(30)],
            server: Server {
                heeds: variant != Variant::Heedless && (!lenient || chance.percent(70)),
                gone_is_changed: chance.percent(30),
                page: chance.of(&[1000, 1000, 1]),
            },
        }
    }
}
