//! Background tasks, none of which may end while the bridge runs.
//!
//! Without supervision, a task that panicked would be gone unnoticed. It is better to end the process, which a supervisor
//! starts again, than to keep a process that looks alive and receives or sends nothing.

use std::collections::HashMap;
use std::future::{Future, pending};

use log::error;
use thiserror::Error;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// A background task that ended although it never should.
#[derive(Debug, Error)]
#[error("{task} ended unexpectedly, so the bridge stops: {how}")]
pub struct TaskEnded {
    /// The name of the task.
    pub task: &'static str,
    /// Why it ended, as far as is known.
    pub how: String,
}

impl TaskEnded {
    /// Describes the end of `task`, and logs it.
    #[must_use]
    pub fn new(task: &'static str, ended: &Result<(), JoinError>) -> Self {
        let how = match ended {
            Ok(()) => "it stopped by itself".to_owned(),
            Err(error) => error.to_string(),
        };
        let ended = Self { task, how };
        error!("{ended}");
        ended
    }
}

/// Background tasks. [`Tasks::stop`] ends them; if this is dropped instead, they end some time later.
#[derive(Debug, Default)]
pub struct Tasks {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task on this thread; must be called within an actix system. A task that is aborted through the handle
    /// counts as ended, too.
    pub fn spawn<T>(&mut self, name: &'static str, task: impl Future<Output = T> + 'static) -> AbortHandle {
        let handle = self.tasks.spawn_local(async move {
            task.await;
        });
        self.names.insert(handle.id(), name);
        handle
    }

    /// Aborts the tasks, and waits until everything that they held is dropped. Once the actix system has ended, that would
    /// be too late: a database connection that is dropped outside of a Tokio runtime panics.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// Waits until one of the tasks ends; forever if there are none.
    pub async fn ended(&mut self) -> TaskEnded {
        let Some(ended) = self.tasks.join_next_with_id().await else { return pending().await };
        let (id, ended) = match ended {
            Ok((id, ())) => (id, Ok(())),
            Err(error) => (error.id(), Err(error)),
        };
        TaskEnded::new(self.names.remove(&id).unwrap_or("a background task"), &ended)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn in_system(test: impl Future<Output = ()>) {
        actix_web::rt::System::new().block_on(test);
    }

    #[test]
    fn a_task_that_panics_is_told_of_by_its_name_and_its_message() {
        in_system(async {
            let mut tasks = Tasks::default();
            tasks.spawn("the one that goes on", pending::<()>());
            tasks.spawn("the one that panics", async { panic!("no more") });
            let ended = tasks.ended().await;
            assert_eq!(ended.task, "the one that panics");
            assert!(ended.to_string().contains("the one that panics ended"), "{ended}");
            assert!(ended.how.contains("panicked") && ended.how.contains("no more"), "{ended}");
        });
    }

    #[test]
    fn a_task_that_returns_is_told_of() {
        in_system(async {
            let mut tasks = Tasks::default();
            tasks.spawn("the one that goes on", pending::<()>());
            tasks.spawn("the one that returns", async { 7 });
            let ended = tasks.ended().await;
            assert_eq!((ended.task, ended.how.as_str()), ("the one that returns", "it stopped by itself"));
        });
    }

    #[test]
    fn tasks_that_go_on_are_not_told_of_and_end_with_whoever_holds_them() {
        in_system(async {
            let mut tasks = Tasks::default();
            assert!(timeout(Duration::from_millis(1), tasks.ended()).await.is_err());
            let (alive, mut ends) = tokio::sync::oneshot::channel::<()>();
            tasks.spawn("the one that goes on", async move {
                pending::<()>().await;
                drop(alive);
            });
            assert!(timeout(Duration::from_millis(1), tasks.ended()).await.is_err());
            assert!(ends.try_recv().is_err());
            drop(tasks);
            assert!(ends.await.is_err());
        });
    }

    #[test]
    fn what_stopped_tasks_held_is_dropped_within_the_runtime() {
        struct Held(std::rc::Rc<std::cell::Cell<bool>>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.set(tokio::runtime::Handle::try_current().is_ok());
            }
        }
        let in_runtime = std::rc::Rc::default();
        let held = Held(std::rc::Rc::clone(&in_runtime));
        in_system(async {
            let mut tasks = Tasks::default();
            tasks.spawn("the one that goes on", async move {
                pending::<()>().await;
                drop(held);
            });
            tasks.stop().await;
        });
        assert!(in_runtime.get());
    }
}
