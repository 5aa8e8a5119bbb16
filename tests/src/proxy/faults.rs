//! The rules by which the proxy breaks requests.
//!
//! A [`Rule`] says which requests (operation, key, not the first few), how often, and what happens
//! to them. Rules are tried in the order they were added and the first that takes a request acts;
//! a rule that still skips, or is used up, leaves the request to the next.
//!
//! Owns the choice only: acting on it is the proxy's affair.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::count::Operation;

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// The proxy answers with this status. With an S3 error code the body is an S3 error (but not
    /// for HEAD), without one it is empty.
    Status(u16, Option<String>),
    /// The connection is reset at once (RST), without an answer.
    Reset,
    /// The server carries the request out and answers, but the client sees a reset instead (RST).
    LoseAnswer,
    /// No answer for that long, then the connection is closed.
    Hang(Duration),
    /// Forwarded after that long.
    Delay(Duration),
    /// Status, headers and exactly this many bytes of body reach the client, then the connection is
    /// closed. Bodies that are no longer than that come through whole.
    BreakBodyAfter(u64),
    /// The body stops after this many bytes until notified (`notify_one` is kept if it comes before
    /// the stop; each lets one body go on).
    PauseBodyAfter(u64, Arc<Notify>),
    /// The answer lacks this header.
    StripHeader(String),
    /// The server carries the request out, and its answer has this body instead, with its status.
    ReplaceBody(String),
    /// The connection is reset at once (RST), and the server gets the request only that long after; for requests
    /// without a body.
    Later(Duration),
}

impl Action {
    /// An S3 error such as `503 SlowDown`.
    pub fn error(status: u16, code: &str) -> Action {
        Action::Status(status, Some(code.to_owned()))
    }
}

/// Which keys a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMatch {
    /// This key alone.
    Exact(String),
    /// Keys that begin so.
    Prefix(String),
}

/// Which requests, how often, and what happens to them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Only this operation; any if none.
    pub operation: Option<Operation>,
    /// Only these keys (for a List: these prefixes); any if none.
    pub key: Option<KeyMatch>,
    /// Only requests with `If-Match`.
    pub conditional: bool,
    /// This many matching requests are let through first.
    pub nth: usize,
    /// How many requests it acts on; for ever if none.
    pub times: Option<usize>,
    /// What it does.
    pub action: Action,
}

impl Rule {
    /// A rule about every request, for ever.
    pub fn new(action: Action) -> Rule {
        Rule { operation: None, key: None, conditional: false, nth: 0, times: None, action }
    }

    /// Only this operation.
    pub fn operation(mut self, operation: Operation) -> Rule {
        self.operation = Some(operation);
        self
    }

    /// Only this key.
    pub fn key(mut self, key: &str) -> Rule {
        self.key = Some(KeyMatch::Exact(key.to_owned()));
        self
    }

    /// Only keys that begin so.
    pub fn prefix(mut self, prefix: &str) -> Rule {
        self.key = Some(KeyMatch::Prefix(prefix.to_owned()));
        self
    }

    /// Only requests with `If-Match`.
    pub fn conditional(mut self) -> Rule {
        self.conditional = true;
        self
    }

    /// Lets the first `requests` matching ones through.
    pub fn nth(mut self, requests: usize) -> Rule {
        self.nth = requests;
        self
    }

    /// Acts on this many requests, then no more.
    pub fn times(mut self, requests: usize) -> Rule {
        self.times = Some(requests);
        self
    }

    fn matches(&self, operation: Operation, key: &str, conditional: bool) -> bool {
        let key_fits = match &self.key {
            None => true,
            Some(KeyMatch::Exact(wanted)) => key == wanted,
            Some(KeyMatch::Prefix(wanted)) => key.starts_with(wanted.as_str()),
        };
        key_fits && (conditional || !self.conditional) && self.operation.is_none_or(|wanted| wanted == operation)
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    pub(super) fn clear(&self) {
        self.rules().clear();
    }

    /// What happens to this request; counts it against the rule that takes it.
    pub(super) fn take(&self, operation: Operation, key: &str, conditional: bool) -> Option<Action> {
        let mut rules = self.rules();
        for rule in rules.iter_mut() {
            if !rule.matches(operation, key, conditional) {
                continue;
            }
            if rule.nth > 0 {
                rule.nth -= 1;
                continue;
            }
            match &mut rule.times {
                None => {}
                Some(0) => continue,
                Some(left) => *left -= 1,
            }
            return Some(rule.action.clone());
        }
        None
    }
}
