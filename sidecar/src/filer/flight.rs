//! One question a key, however many ask (L3).
//!
//! The first caller starts a task; everyone waits for what it publishes. The task belongs to nobody:
//! a caller that leaves cancels nothing, not even when it was the first. The key is free again when
//! the task *ends*, which is after it has persisted its answer. Between the two an answer is kept like
//! any other: later callers are given it while it is good, and ask again when it is not. A task that
//! panics frees its key too, and its waiters learn that there is no answer. The lock is never held
//! across an await.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// Questions under way.
pub struct Flights<K, V>(Mutex<HashMap<K, watch::Receiver<Option<V>>>>);

/// Gives the answer to everyone who waits.
pub struct Publisher<V>(watch::Sender<Option<V>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits for the answer for `key`; `start` makes the task if none is under way.
    ///
    /// A task that has answered and is not yet done is under way for whom its answer is still `good`.
    /// `None` when the task ended without an answer.
    pub async fn join<F>(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        key: K,
        good: impl FnOnce(&V) -> bool,
        start: impl FnOnce(Publisher<V>) -> F,
    ) -> Option<V>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut answer = {
            let mut open = self.open();
            match open.get(&key).filter(|answer| answer.borrow().as_ref().is_none_or(good)) {
                Some(answer) => answer.clone(),
                None => {
                    let (publisher, answer) = watch::channel(None);
                    let older = open.insert(key.clone(), answer.clone());
                    let landed = Landed { flights: Arc::clone(self), key, answer: publisher.clone() };
                    let work = start(Publisher(publisher));
                    tasks.spawn(async move {
                        let _landed = landed;
                        work.await;
                        // Whoever waits for the key to be free waits for all that was answered.
                        if let Some(older) = older {
                            ended(older).await;
                        }
                    });
                    answer
                }
            }
        };
        let answer = answer.wait_for(Option::is_some).await.ok()?;
        answer.clone()
    }

    /// Waits until the task for `key` has ended, if there is one: what it has answered is persisted then.
    pub async fn landed(&self, key: &K) {
        let under_way = self.open().get(key).cloned();
        if let Some(answer) = under_way {
            ended(answer).await;
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<K, watch::Receiver<Option<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Publisher<V> {
    /// Publishes the answer; the task may go on.
    pub fn publish(&self, answer: V) {
        self.0.send_replace(Some(answer));
    }
}

/// Waits until the key is free of this task.
async fn ended<V>(mut answer: watch::Receiver<Option<V>>) {
    let _ = answer.wait_for(|_| false).await;
}

/// Frees the key when the task ends, however it ends.
struct Landed<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    flights: Arc<Flights<K, V>>,
    key: K,
    /// Whoever waits learns that there is no answer when the key is free, and not before.
    answer: watch::Sender<Option<V>>,
}

impl<K, V> Drop for Landed<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        let mut open = self.flights.open();
        if open.get(&self.key).is_some_and(|answer| answer.same_channel(&self.answer.subscribe())) {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn many_ask_once_and_the_first_may_leave() {
        let (flights, tasks, asked) = (Arc::new(Flights::default()), TaskTracker::new(), Arc::new(AtomicU32::new(0)));
        let ask = || {
            let (flights, tasks, asked) = (Arc::clone(&flights), tasks.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                flights
                    .join(
                        &tasks,
                        "key",
                        |_| true,
                        |publisher| async move {
                            asked.fetch_add(1, Ordering::SeqCst);
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            publisher.publish(42);
                        },
                    )
                    .await
            })
        };
        let first = ask();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let others: Vec<_> = (0..64).map(|_| ask()).collect();
        first.abort();
        for other in others {
            assert_eq!(other.await.unwrap(), Some(42));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        flights.landed(&"key").await;
        flights.landed(&"another").await;
        tasks.close();
        tasks.wait().await;
        assert!(flights.open().is_empty());
    }

    #[tokio::test]
    async fn a_panic_frees_the_key() {
        let (flights, tasks) = (Arc::new(Flights::<_, u32>::default()), TaskTracker::new());
        assert_eq!(flights.join(&tasks, 1, |_| true, |_| async { panic!("on purpose") }).await, None);
        assert_eq!(flights.join(&tasks, 1, |_| true, |publisher| async move { publisher.publish(7) }).await, Some(7));
    }
    #[tokio::test]
    async fn an_answer_that_is_not_yet_kept_is_told_only_while_it_is_good() {
        let (flights, tasks) = (Arc::new(Flights::default()), TaskTracker::new());
        let kept = [(); 5].map(|()| Arc::new(tokio::sync::Notify::new()));
        let answer = |good: bool, value: usize| {
            let (flights, tasks, kept) = (Arc::clone(&flights), tasks.clone(), Arc::clone(&kept[value]));
            let start = move |publisher: Publisher<usize>| async move {
                publisher.publish(value);
                kept.notified().await;
            };
            async move { flights.join(&tasks, "key", |_| good, start).await }
        };
        assert_eq!(answer(true, 1).await, Some(1));
        assert_eq!(answer(true, 2).await, Some(1), "it is good");
        assert_eq!(answer(false, 3).await, Some(3), "it is not");
        assert_eq!(answer(true, 4).await, Some(3), "the later one counts");
        // The key is not free before both are kept, whichever is first.
        let mut landed = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.landed(&"key").await }
        });
        kept[3].notify_one();
        let pause = Duration::from_millis(50);
        assert!(tokio::time::timeout(pause, &mut landed).await.is_err(), "the earlier answer is not kept yet");
        kept[1].notify_one();
        landed.await.unwrap();
        assert!(flights.open().is_empty());
    }
}
