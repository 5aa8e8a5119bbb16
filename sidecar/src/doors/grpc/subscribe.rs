//! Subscriptions: the log of events from some time on, then as it grows (E1).
//!
//! Both methods of the protocol serve the one log there is. Events are read as the client takes them,
//! so a slow client costs nothing but its own place. Who asks for what is no longer kept is told so
//! (`OutOfRange`) instead of being shown a log with a hole. A subscription with an end gets every event
//! up to it: what was under way then is waited for. After many events of no interest an empty one says
//! how far the log was read. The stop ends a subscription with `Unavailable`, never as if it were
//! complete, and at once, so that it does not hold up the drain.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};

use crate::clock;
use crate::doors::grpc::event::{self, Wanted};
use crate::doors::grpc::{error, proto};
use crate::events::{Event, Events};
use crate::filer::Filer;
use crate::mounts::Mounts;

/// Events read at a time.
const PAGE: usize = 256;
/// After more events of no interest than this in a row, the client is told how far the log was read.
const UNTOLD: u32 = 1000;
/// What comes in so short a time is read together.
const GATHER: Duration = Duration::from_millis(10);
/// The log is looked at again after this, even without news.
const LOOK: Duration = Duration::from_secs(5);

/// Events, as they come.
pub type Changes = BoxStream<'static, Result<proto::SubscribeMetadataResponse, Status>>;

/// Where a subscription is.
pub struct Follower {
    filer: Filer,
    mounts: Arc<Mounts>,
    stop: CancellationToken,
    events: Events,
    wanted: Wanted,
    after: u64,
    until: Option<u64>,
    untold: u32,
    ready: VecDeque<proto::SubscribeMetadataResponse>,
    /// What was under way at the end of the time asked for is durable.
    last_look: bool,
    over: bool,
}

/// Answers `SubscribeMetadata` and `SubscribeLocalMetadata`.
///
/// # Errors
/// When events that are asked for are no longer kept, or the log cannot be read.
pub fn answer(follower: Follower, asked: proto::SubscribeMetadataRequest) -> Result<Response<Changes>, Status> {
    tracing::debug!(client = asked.client_name, prefix = asked.path_prefix, since = asked.since_ns, "subscribed");
    let follower = Follower {
        after: u64::try_from(asked.since_ns).unwrap_or(0),
        until: u64::try_from(asked.until_ns).ok().filter(|until| *until > 0),
        wanted: Wanted {
            prefix: asked.path_prefix,
            prefixes: asked.path_prefixes,
            directories: asked.directories,
            signature: asked.signature,
        },
        ..follower
    };
    // What cannot be followed from the start is the call's status rather than the stream's.
    follower.events.after(follower.after, 1)?;
    let changes = stream::unfold(follower, |mut follower| async { follower.next().await.map(|next| (next, follower)) });
    Ok(Response::new(changes.boxed()))
}

impl Follower {
    /// One that follows the log of `filer` from its beginning until `stop`.
    #[must_use]
    pub fn new(filer: Filer, mounts: Arc<Mounts>, stop: CancellationToken) -> Self {
        Self {
            events: filer.events(),
            filer,
            mounts,
            stop,
            wanted: Wanted::default(),
            after: 0,
            until: None,
            untold: 0,
            ready: VecDeque::new(),
            last_look: false,
            over: false,
        }
    }

    async fn next(&mut self) -> Option<Result<proto::SubscribeMetadataResponse, Status>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
            }
            if self.over {
                return None;
            }
            if self.stop.is_cancelled() {
                self.over = true;
                let text = "the sidecar is stopping: subscribe again from the last event";
                return Some(Err(error::refusal(Code::Unavailable, "Stopping", text)));
            }
            match self.events.after(self.after, PAGE) {
                Ok(page) => self.read(page).await,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error.into()));
                }
            }
        }
    }

    /// Takes what is wanted of a page; waits if there is nothing more in the log.
    async fn read(&mut self, page: Vec<Event>) {
        let more = page.len() == PAGE;
        let table = self.mounts.load();
        let own = self.events.signature();
        for event in page {
            if self.until.is_some_and(|until| event.at > until) {
                self.over = true;
                return;
            }
            self.after = event.at;
            if self.wanted.holds(&event) {
                self.untold = 0;
                self.ready.push_back(event::message(event, own, &table));
            } else {
                self.untold += 1;
                if self.untold > UNTOLD {
                    self.untold = 0;
                    self.ready.push_back(event::mark(self.after));
                }
            }
        }
        if more {
            // A long log of which nothing is wanted must not keep others from being served.
            tokio::task::yield_now().await;
        } else if self.ready.is_empty() {
            self.wait().await;
        }
    }

    /// Waits until there may be more; the end of the time asked for is the end once nothing is under way.
    async fn wait(&mut self) {
        let left = self.until.map(|until| until.saturating_sub(clock::nanos()));
        if left == Some(0) {
            self.over = self.last_look;
            if !self.over {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    () = self.filer.told() => self.last_look = true,
                }
            }
            return;
        }
        let look = left.map_or(LOOK, |left| LOOK.min(Duration::from_nanos(left)));
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(look) => {}
            () = self.events.newer_than(self.after) => tokio::time::sleep(GATHER).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{File, Millis};
    use crate::events::{Cause, Origin};
    use crate::metrics::Metrics;
    use crate::path::RelPath;
    use crate::store::memory::MemoryStore;
    use crate::store::{Change, EVENTS_KEPT, FileDeletion, Identity, MountId, Store, Writer};

    struct Log {
        store: Arc<dyn Store>,
        writer: Writer,
        mount: MountId,
        filer: Filer,
        stop: CancellationToken,
    }

    fn log() -> Log {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (writer, _) = Writer::start(Arc::clone(&store)).unwrap();
        let mount = store.adopt(&[Identity { path: "/m".into(), remote: "s3://b".into() }]).unwrap()[0];
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let filer = Filer::new(Arc::default(), Arc::clone(&store), writer.clone(), metrics).unwrap();
        Log { store, writer, mount, filer, stop: CancellationToken::new() }
    }

    impl Log {
        /// Makes one event for each name.
        async fn delete(&self, names: impl Iterator<Item = String>) {
            let origin = Origin { cause: Cause::Door, from_other_cluster: false, signatures: vec![3] };
            let changes = names.map(|name| {
                let path = RelPath::parse(&name).unwrap();
                let pointer = File::local(Millis(1)).pointer;
                let (since, at, origin) = (clock::now(), clock::now(), origin.clone());
                let put = Change::PutFile(self.mount, path.clone(), File::local(Millis(1)));
                [put, Change::DeleteFile(self.mount, path, FileDeletion { since, at, pointer, hide: false, origin })]
            });
            self.writer.commit(changes.flatten().collect()).await.unwrap();
        }

        fn subscribe(&self, asked: proto::SubscribeMetadataRequest) -> Changes {
            let follower = Follower::new(self.filer.clone(), Arc::default(), self.stop.clone());
            answer(follower, asked).unwrap().into_inner()
        }
    }

    fn name(message: Option<Result<proto::SubscribeMetadataResponse, Status>>) -> String {
        let told = message.unwrap().unwrap().event_notification.unwrap();
        told.old_entry.map(|entry| entry.name).unwrap_or_default()
    }

    #[tokio::test]
    async fn events_follow_in_order_and_end_with_the_stop() {
        let log = log();
        log.delete(["a", "b"].into_iter().map(str::to_owned)).await;
        let mut all = log.subscribe(proto::SubscribeMetadataRequest::default());
        assert_eq!((name(all.next().await), name(all.next().await)), ("a".into(), "b".into()));
        let (next, ()) = tokio::join!(all.next(), log.delete(["c".to_owned()].into_iter()));
        assert_eq!(name(next), "c");
        let since = log.store.events(0, 9).unwrap().events[1].at;
        let since = proto::SubscribeMetadataRequest { since_ns: i64::try_from(since).unwrap(), ..Default::default() };
        assert_eq!(name(log.subscribe(since).next().await), "c", "after, not from");
        log.stop.cancel();
        let status = all.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "this is no end of the log");
        assert!(all.next().await.is_none());
    }

    #[tokio::test]
    async fn a_range_is_complete_and_ends() {
        let log = log();
        log.delete((0..600).map(|n| format!("f{n}"))).await;
        let until = log.store.events(0, 600).unwrap().events[499].at;
        let range = proto::SubscribeMetadataRequest { until_ns: i64::try_from(until).unwrap(), ..Default::default() };
        assert_eq!(log.subscribe(range).collect::<Vec<_>>().await.len(), 500);
        let range = proto::SubscribeMetadataRequest { until_ns: i64::MAX, ..Default::default() };
        assert_eq!(log.subscribe(range).take(600).collect::<Vec<_>>().await.len(), 600);
        // What is under way when the time is over is part of it.
        let until = i64::try_from(clock::nanos() + 50_000_000).unwrap();
        let range = proto::SubscribeMetadataRequest { until_ns: until, ..Default::default() };
        assert_eq!(log.subscribe(range).collect::<Vec<_>>().await.len(), 600);
    }

    #[tokio::test]
    async fn who_wants_little_is_told_how_far_the_log_was_read() {
        let log = log();
        log.delete((0..2500).map(|n| format!("f{n:04}"))).await;
        let path_prefix = "/m/f2499".to_owned();
        let mut little = log.subscribe(proto::SubscribeMetadataRequest { path_prefix, ..Default::default() });
        let events = log.store.events(0, 3000).unwrap().events;
        for wanted in [1000, 2001] {
            let mark = little.next().await.unwrap().unwrap();
            assert_eq!(mark.ts_ns, i64::try_from(events[wanted].at).unwrap());
            assert!(mark.event_notification.unwrap().old_entry.is_none());
        }
        assert_eq!(name(little.next().await), "f2499");
    }

    #[tokio::test]
    async fn who_asks_for_what_is_gone_is_told_so() {
        let log = log();
        log.delete((0..EVENTS_KEPT + 2).map(|_| "f".to_owned())).await;
        let first = log.store.events(0, 1).unwrap().events[0].at;
        while log.store.purge(10_000, clock::now()).unwrap() {}
        let since =
            |at: u64| proto::SubscribeMetadataRequest { since_ns: i64::try_from(at).unwrap(), ..Default::default() };
        let follower = Follower::new(log.filer.clone(), Arc::default(), log.stop.clone());
        let Err(status) = answer(follower, since(first)) else { panic!("a log with a hole") };
        assert_eq!(status.code(), Code::OutOfRange);
        assert_eq!(name(log.subscribe(since(0)).next().await), "f", "0 is whatever is kept");
    }
}
