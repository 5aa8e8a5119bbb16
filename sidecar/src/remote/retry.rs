//! Retry: asks again while that may help and the mount's time is not up.
//!
//! Up to three attempts within one budget, with a growing pause and jitter between them. An attempt
//! that hangs is given up after half the budget, because a new connection often answers. What cannot
//! be helped by asking again (denied, changed, rejected) is passed on at once. The stream of a read
//! is not watched here: the reader resumes it, since only it knows how far it came. A delete may be
//! asked for again, because one that was done already is no error; a bulk request only while it is
//! clear that it was not carried out.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};

use crate::entry::Pointer;
use crate::remote::observe::HealthRecord;
use crate::remote::{Body, Capabilities, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat};

const ATTEMPTS: u32 = 3;
/// A request for a thousand keys may take as many times as long as one for one.
const BULK_BUDGETS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Asks `inner` again while that may help.
pub struct Retry<R> {
    inner: R,
    budget: Duration,
    health: Arc<HealthRecord>,
}

impl<R: Remote> Retry<R> {
    /// Gives each question `budget`, all attempts and pauses included; one that takes longer shows in `health`.
    pub const fn new(inner: R, budget: Duration, health: Arc<HealthRecord>) -> Self {
        Self { inner, budget, health }
    }

    async fn run<T, F>(
        &self,
        operation: Operation,
        key: &str,
        budget: Duration,
        attempt: impl Fn() -> F,
    ) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>>,
    {
        let deadline = Instant::now() + budget;
        let timed_out = || {
            let message = format!("no answer within {} s", budget.as_secs_f32());
            RemoteError::new(ErrorKind::TimedOut, operation, key, message)
        };
        // Sent again, a bulk request could delete what was made anew since the first was carried out.
        let once = operation == Operation::DeleteMany;
        let (mut last, mut unclear) = (None, None);
        for number in 0..ATTEMPTS {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = if number == 0 && !once { budget / 2 } else { left };
            let error = match timeout(patience, attempt()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    let error = timed_out();
                    self.health.record(Some(&error));
                    error
                }
            };
            let pause = pause(number);
            let ambiguous = error.kind.is_ambiguous();
            if !error.kind.is_transient() || (once && ambiguous) || Instant::now() + pause >= deadline {
                // A delete that may have been carried out by an earlier attempt is not denied by a later one.
                return Err(unclear.filter(|_| operation == Operation::Delete && !ambiguous).unwrap_or(error));
            }
            if ambiguous {
                unclear = Some(error.clone());
            }
            last = Some(error);
            if number + 1 < ATTEMPTS {
                sleep(pause).await;
            }
        }
        let unclear = unclear.filter(|_| operation == Operation::Delete);
        Err(unclear.or(last).unwrap_or_else(timed_out))
    }
}

#[async_trait]
impl<R: Remote> Remote for Retry<R> {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        self.run(Operation::Stat, key, self.budget, || self.inner.stat(key)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        self.run(Operation::List, &request.prefix, self.budget, || self.inner.list(request)).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>, version: &Pointer) -> Result<Body, RemoteError> {
        self.run(Operation::Read, key, self.budget, || self.inner.read(key, range.clone(), version)).await
    }

    async fn delete(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError> {
        self.run(Operation::Delete, key, self.budget, || self.inner.delete(key, version)).await
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        let first = objects.first().map_or("", |(key, _)| key);
        let budget = self.budget * BULK_BUDGETS;
        let mut failed = self.run(Operation::DeleteMany, first, budget, || self.inner.delete_many(objects)).await?;
        // Keys that the server was too busy for are asked for once more; what is unclear is not.
        let busy = |error: &RemoteError| error.kind == ErrorKind::Throttled;
        let again: Vec<usize> = failed.iter().filter(|(_, error)| busy(error)).map(|(at, _)| *at).collect();
        if !again.is_empty() {
            sleep(pause(1)).await;
            let rest: Vec<_> = again.iter().filter_map(|at| objects.get(*at).cloned()).collect();
            let second = self.run(Operation::DeleteMany, first, budget, || self.inner.delete_many(&rest)).await;
            // A second request that failed as a whole changes nothing of what the first said.
            if let Ok(second) = second {
                failed.retain(|(at, _)| !again.contains(at));
                failed.extend(second.into_iter().filter_map(|(at, error)| Some((*again.get(at)?, error))));
            }
        }
        Ok(failed)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// The pause after attempt `number`: doubling, with jitter so that many sidecars do not ask in step.
fn pause(number: u32) -> Duration {
    // The clock's low digits are jitter enough; no generator is worth a dependency here.
    let noise = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.subsec_nanos() % 1000);
    FIRST_PAUSE * 2u32.pow(number) * (500 + noise) / 1000
}
