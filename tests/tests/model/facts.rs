//! Facts: what the bucket has had, and what a caller may therefore be told.
//!
//! A name is a row of states, from the beginning of a case on. The filer may know an older one than the
//! last, as long as its time is not over; but what it tells never goes back, and never behind a delete
//! that went through it. Pure: nothing here asks anyone.

use std::collections::BTreeSet;

/// One name: every state it has had, each an ETag or nothing.
#[derive(Debug)]
pub struct Name {
    states: Vec<Option<String>>,
    /// Nothing from before this is told any more, whatever happens.
    floor: usize,
    /// What was told last was this state or a later one.
    told: usize,
    /// The same of listings: an answer to a lookup is kept behind its caller's back, and may not be in one yet.
    listed: usize,
    /// The versions that a caller has been told of, while the last thing told was one.
    shown: Option<BTreeSet<String>>,
}

impl Default for Name {
    fn default() -> Self {
        Self { states: vec![None], floor: 0, told: 0, listed: 0, shown: None }
    }
}

impl Name {
    /// What the bucket has now.
    pub fn now(&self) -> Option<&str> {
        self.states.last().and_then(Option::as_deref)
    }

    /// Another writer has changed it.
    pub fn change(&mut self, state: Option<String>) {
        self.states.push(state);
    }

    /// Whether something was there since the last delete that went through the filer.
    pub fn may_be_there(&self) -> bool {
        self.states.iter().skip(self.floor).any(Option::is_some)
    }

    /// A lookup or a read told this; `exact` where nothing is good for any time.
    pub fn looked_up(&mut self, state: Option<&str>, exact: bool) -> Result<(), String> {
        self.told = self.find(state, self.told, exact)?;
        self.show(state);
        Ok(())
    }

    /// A listing told this. What a listing tells is kept before it is told.
    pub fn listed(&mut self, state: Option<&str>, exact: bool) -> Result<(), String> {
        self.listed = self.find(state, self.listed, exact)?;
        self.told = self.told.max(self.listed);
        self.show(state);
        Ok(())
    }

    fn find(&self, state: Option<&str>, from: usize, exact: bool) -> Result<usize, String> {
        let from = if exact { self.states.len() - 1 } else { from };
        let at = self.states.iter().skip(from).position(|known| known.as_deref() == state);
        at.map(|at| from + at)
            .ok_or_else(|| format!("{state:?} was told, and may be one of {:?}", &self.states[from..]))
    }

    fn show(&mut self, state: Option<&str>) {
        match state {
            None => self.shown = None,
            Some(etag) => drop(self.shown.get_or_insert_default().insert(etag.to_owned())),
        }
    }

    /// A delete that went through the filer has taken it away: only a version that was shown, if one was.
    pub fn deleted(&mut self) -> Result<(), String> {
        let wrong = match (self.now(), &self.shown) {
            (Some(now), Some(shown)) if !shown.contains(now) => {
                Some(format!("{now} was deleted, and only {shown:?} had been shown"))
            }
            _ => None,
        };
        if self.now().is_some() {
            self.states.push(None);
        }
        self.floor = self.states.len() - 1;
        (self.told, self.listed, self.shown) = (self.floor, self.floor, None);
        wrong.map_or(Ok(()), Err)
    }

    /// A delete was refused because of the version: is there another one than the filer may have known?
    pub fn conflicts(&self) -> bool {
        let older = self.states.iter().skip(self.floor).flatten();
        self.now().is_some_and(|now| older.into_iter().any(|known| known != now))
    }

    /// The process was killed: what it had just told may not have been kept.
    pub fn forgotten(&mut self) {
        (self.told, self.listed, self.shown) = (self.floor, self.floor, None);
    }
}
