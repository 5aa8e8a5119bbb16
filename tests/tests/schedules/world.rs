//! World: the bucket, the requests on their way, and what is true at each moment.
//!
//! The simulated remote registers a request and waits. When a request is carried out, and when its
//! answer arrives, is for the schedule to say: two steps of their own. Each change of a name is kept
//! with its moment, because what a caller may be shown depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use remotemount_sidecar::entry::{Description, ETag, Pointer};
use remotemount_sidecar::remote::{
    Body, Capabilities, ConditionalDelete, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat,
};
use tokio::sync::oneshot;

use crate::history::{Record, Shown};
use crate::plan::{KEYS, Server};

/// A moment, and what the name was from then on.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    pub step: u64,
    pub version: Option<u64>,
}

/// An object that went because of a request of ours.
#[derive(Clone, Copy, Debug)]
pub struct Removal {
    pub step: u64,
    pub key: &'static str,
    /// When the delete was ordered that it belongs to, as far as can be told.
    pub ordered: u64,
    /// Carried out after its answer had been given up.
    pub late: bool,
}

/// A request on its way.
pub struct Call {
    pub question: Question,
    pub answer: Option<Answer>,
    reply: Option<oneshot::Sender<Answer>>,
    ordered: u64,
}

#[derive(Clone, Debug)]
pub enum Question {
    Stat(String),
    List(ListRequest),
    /// Each key with the tag that it must have.
    Delete(Vec<(String, Option<String>)>),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Stat(Option<Stat>),
    List(ListPage),
    /// What was not deleted.
    Deleted(Vec<(usize, ErrorKind)>),
    Failed(ErrorKind),
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// It is not carried out.
    Refused(ErrorKind),
    /// It is carried out, and the answer gets lost.
    Lost(ErrorKind),
    /// The answer gets lost, and it is carried out at some time after.
    Late(ErrorKind),
    /// Of several keys some are not done, or are done and said not to be.
    Partly(ErrorKind, bool),
}

pub struct World {
    /// The moment.
    pub step: u64,
    /// The time, which stands still for many moments.
    pub millis: u64,
    pub truth: BTreeMap<&'static str, Vec<Truth>>,
    pub calls: Vec<Call>,
    pub removals: Vec<Removal>,
    /// What another writer has put or removed, and when.
    pub touched: Vec<(u64, &'static str)>,
    pub ops: Vec<Record>,
    pub shown: BTreeMap<&'static str, Shown>,
    /// Something was learnt that nobody was shown: someone hung up.
    pub loose: bool,
    /// The process was killed.
    pub killed: bool,
    /// What was wrong first.
    pub wrong: Option<String>,
    pub trace: Option<Vec<String>>,
    versions: u64,
    server: Server,
}

impl World {
    pub fn new(server: Server, there: [bool; 2], traced: bool) -> Self {
        let mut world = Self {
            step: 0,
            millis: 0,
            truth: KEYS.map(|key| (key, Vec::new())).into(),
            calls: Vec::new(),
            removals: Vec::new(),
            touched: Vec::new(),
            ops: Vec::new(),
            shown: KEYS.map(|key| (key, Shown::default())).into(),
            loose: false,
            killed: false,
            wrong: None,
            trace: traced.then(Vec::new),
            versions: 0,
            server,
        };
        for (key, there) in KEYS.into_iter().zip(there) {
            if there {
                world.put(key, false);
            } else {
                world.change(key, None);
            }
        }
        world
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let step = self.step;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{step:>4}  {}", line()));
        }
    }

    /// Keeps the first thing that is wrong.
    pub fn wrong(&mut self, what: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            let what = what();
            self.note(|| format!("WRONG: {what}"));
            self.wrong = Some(what);
        }
    }

    /// The version of the key.
    pub fn version(&self, key: &str) -> Option<u64> {
        self.truth.get(key).and_then(|truth| truth.last()).and_then(|truth| truth.version)
    }

    /// Another writer puts the key; `again` with a content that it had before.
    pub fn put(&mut self, key: &'static str, again: bool) {
        let old = self.truth[key].iter().rev().find_map(|truth| truth.version).filter(|_| again);
        self.versions += u64::from(old.is_none());
        let version = old.unwrap_or(self.versions);
        self.change(key, Some(version));
        if self.step > 0 {
            self.touched.push((self.step, key));
        }
        self.note(|| format!("another writer puts {key} v{version}"));
    }

    /// Another writer removes the key.
    pub fn remove(&mut self, key: &'static str) {
        self.change(key, None);
        self.touched.push((self.step, key));
        self.note(|| format!("another writer removes {key}"));
    }

    fn change(&mut self, key: &'static str, version: Option<u64>) {
        let truth = Truth { step: self.step, version };
        self.truth.entry(key).or_default().push(truth);
    }

    /// Carries out the request.
    pub fn effect(&mut self, at: usize, fault: Fault) {
        let question = self.calls[at].question.clone();
        let (ordered, late) = (self.calls[at].ordered, self.calls[at].reply.is_none());
        self.note(|| format!("carried out ({fault:?}, late: {late}): {question:?}"));
        let answer = match fault {
            Fault::None => self.carry_out(&question, ordered, late, None),
            Fault::Refused(kind) => Answer::Failed(kind),
            Fault::Lost(kind) => {
                self.carry_out(&question, ordered, late, None);
                Answer::Failed(kind)
            }
            Fault::Late(kind) => {
                let again = Call { question: question.clone(), answer: None, reply: None, ordered };
                self.calls.push(again);
                Answer::Failed(kind)
            }
            Fault::Partly(kind, done) => self.carry_out(&question, ordered, late, Some((kind, done))),
        };
        self.calls[at].answer = Some(answer);
    }

    /// Brings the answer to whoever asked, if they are still there.
    pub fn answer(&mut self, at: usize) {
        let call = self.calls.remove(at);
        self.note(|| format!("answered: {:?} is {:?}", call.question, call.answer));
        let (Some(answer), Some(reply)) = (call.answer, call.reply) else { return };
        // A page that is not the last is kept before its caller has all of them.
        if let (Question::List(request), Answer::List(page)) = (&call.question, &answer)
            && request.directories
            && page.next.is_some()
        {
            for (key, pointer) in &page.objects {
                if let (Some(shown), Some(version)) = (self.shown.get_mut(key.as_str()), version_of(pointer)) {
                    shown.versions.insert(version);
                }
            }
        }
        drop(reply.send(answer));
    }

    /// The process is gone: nobody waits any more; what was sent may still be carried out.
    pub fn abandon(&mut self, mut keep: impl FnMut() -> bool) {
        self.killed = true;
        self.calls.retain_mut(|call| {
            call.reply = None;
            call.answer.is_none() && keep()
        });
    }

    fn carry_out(
        &mut self,
        question: &Question,
        ordered: u64,
        late: bool,
        partly: Option<(ErrorKind, bool)>,
    ) -> Answer {
        match question {
            Question::Stat(key) => Answer::Stat(self.version(key).map(stat)),
            Question::List(request) => Answer::List(self.page(request)),
            Question::Delete(keys) => {
                let mut failed = Vec::new();
                for (at, (key, condition)) in keys.iter().enumerate() {
                    let failing = partly.filter(|_| at == 0);
                    if !matches!(failing, Some((_, false)))
                        && let Err(kind) = self.delete(key, condition.as_deref(), ordered, late)
                    {
                        failed.push((at, kind));
                        continue;
                    }
                    failed.extend(failing.map(|(kind, _)| (at, kind)));
                }
                Answer::Deleted(failed)
            }
        }
    }

    fn delete(&mut self, key: &str, condition: Option<&str>, ordered: u64, late: bool) -> Result<(), ErrorKind> {
        let Some(key) = KEYS.into_iter().find(|own| *own == key) else { return Ok(()) };
        let condition = condition.filter(|_| self.server.heeds);
        match self.version(key) {
            None if condition.is_some() && self.server.gone_is_changed => Err(ErrorKind::Changed),
            None => Ok(()),
            Some(version) if condition.is_some_and(|tag| tag != tag_of(version)) => Err(ErrorKind::Changed),
            Some(version) => {
                self.check_removal(key, version, ordered, self.server.heeds);
                self.change(key, None);
                self.note(|| format!("we removed {key} v{version}"));
                self.removals.push(Removal { step: self.step, key, ordered, late });
                Ok(())
            }
        }
    }

    fn page(&self, request: &ListRequest) -> ListPage {
        let mut page = ListPage::default();
        let after = request.token.as_deref().or(request.after.as_deref()).unwrap_or_default();
        let size = self.server.page.min(usize::from(request.limit));
        let mut prefixes = BTreeSet::new();
        for key in KEYS.into_iter().filter(|key| key.starts_with(&request.prefix) && *key > after) {
            let Some(version) = self.version(key) else { continue };
            let directory = key[request.prefix.len()..].find('/').filter(|_| request.directories);
            if let Some(end) = directory {
                prefixes.insert(key[..=request.prefix.len() + end].to_owned());
            } else if page.objects.len() < size {
                page.objects.push((key.to_owned(), stat(version).pointer));
            } else {
                page.next = page.objects.last().map(|(key, _)| key.clone());
                break;
            }
        }
        page.prefixes = prefixes.into_iter().collect();
        page
    }
}

fn tag_of(version: u64) -> String {
    format!("\"v{version}\"")
}

/// The version that a pointer is of.
pub fn version_of(pointer: &Pointer) -> Option<u64> {
    pointer.etag.as_ref()?.to_header().trim_matches('"').strip_prefix('v')?.parse().ok()
}

fn stat(version: u64) -> Stat {
    let pointer = Pointer { size: version % 2, etag: ETag::from_header(&tag_of(version)), modified: 1_000_000 };
    Stat { pointer, description: Description::default() }
}

/// The bucket, as the filer sees it.
pub struct Simulated(pub Arc<Mutex<World>>);

impl Simulated {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    async fn ask(&self, question: Question, operation: Operation, key: &str) -> Result<Answer, RemoteError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut world = self.world();
            world.note(|| format!("asked: {question:?}"));
            let ordered = world.ordered(&question);
            world.calls.push(Call { question, answer: None, reply: Some(reply), ordered });
        }
        match answer.await.unwrap() {
            Answer::Failed(kind) => Err(RemoteError::new(kind, operation, key, "simulated")),
            answer => Ok(answer),
        }
    }

    async fn deleted(&self, keys: Vec<(String, Option<String>)>) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        let first = keys.first().map(|(key, _)| key.clone()).unwrap_or_default();
        match self.ask(Question::Delete(keys), Operation::Delete, &first).await? {
            Answer::Deleted(failed) => {
                let error = |kind| RemoteError::new(kind, Operation::Delete, &first, "simulated");
                Ok(failed.into_iter().map(|(at, kind)| (at, error(kind))).collect())
            }
            other => unreachable!("{other:?}"),
        }
    }
}

#[async_trait]
impl Remote for Simulated {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        match self.ask(Question::Stat(key.to_owned()), Operation::Stat, key).await? {
            Answer::Stat(stat) => Ok(stat),
            other => unreachable!("{other:?}"),
        }
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        match self.ask(Question::List(request.clone()), Operation::List, &request.prefix).await? {
            Answer::List(page) => Ok(page),
            other => unreachable!("{other:?}"),
        }
    }

    async fn read(&self, key: &str, _: Option<Range<u64>>, _: &Pointer) -> Result<Body, RemoteError> {
        Err(RemoteError::new(ErrorKind::Rejected, Operation::Read, key, "nothing is read here"))
    }

    async fn delete(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError> {
        let tag = version.and_then(|pointer| pointer.etag.as_ref()).map(ETag::to_header);
        match self.deleted(vec![(key.to_owned(), tag)]).await?.pop() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        let tag = |pointer: &Pointer| pointer.etag.as_ref().map(ETag::to_header);
        self.deleted(objects.iter().map(|(key, pointer)| (key.clone(), tag(pointer))).collect()).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_read: true,
            start_after: true,
            conditional_delete: ConditionalDelete::Unknown,
            bulk_delete: true,
        }
    }
}
