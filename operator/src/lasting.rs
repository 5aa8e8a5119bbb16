//! Tasks that last as long as the process: one that ends by itself takes the process with it.
//!
//! An operator whose watch has died would answer from what it knew then, for ever; whoever runs it
//! starts it anew instead, and what starts anew knows nothing that has become wrong. A task is told to
//! stop by being dropped at an await.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where such tasks are started.
#[derive(Clone)]
pub struct Lasting {
    tasks: TaskTracker,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Lasting {
    /// Tasks that end at `stop`.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), stop, ended: CancellationToken::new() }
    }

    /// Runs `task` until the stop.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn_through(async move { stop.run_until_cancelled(task).await.unwrap_or_default() });
    }

    /// Runs `task`, which heeds the stop itself: it may finish what it is at.
    pub fn spawn_through(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Dropped by the end of the task, by its panic, too.
        let guard = self.ended.clone().drop_guard();
        self.tasks.spawn(async move {
            task.await;
            drop(guard);
        });
    }

    /// Waits until a task has ended by itself.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Waits until all have ended, after the stop.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_noticed_and_one_that_is_stopped_ends() {
        let stop = CancellationToken::new();
        let tasks = Lasting::new(stop.clone());
        tasks.spawn(std::future::pending());
        tokio::select! {
            biased;
            () = tasks.ended() => panic!("nothing has ended"),
            () = tokio::task::yield_now() => {}
        }
        tasks.spawn(async { panic!("on purpose") });
        tasks.ended().await;
        stop.cancel();
        tasks.wait().await;
    }
}
