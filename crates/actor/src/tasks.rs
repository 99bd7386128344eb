//! An owner for named tasks that are not actors.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::task::{Id, JoinSet};

use super::spawn::caught;
use super::{ActorHandle, ExitReason, Outcome};

/// Owns tasks by name, and knows which of them still run. Dropping it aborts all of them.
///
/// Finished tasks are kept until [`Tasks::join_next`] takes them.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<ExitReason>,
    names: HashMap<Id, Arc<str>>,
}

impl Tasks {
    /// Creates an owner without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. A panic in the task is caught and logged under `name`. Names need not be unique.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F>(&mut self, name: impl Into<Arc<str>>, future: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let name = name.into();
        let label = Arc::clone(&name);
        let task = self.set.spawn(async move { caught(&label, move || future).await });
        self.names.insert(task.id(), name);
    }

    /// Takes over an actor as a task with the actor's name.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn own(&mut self, handle: ActorHandle) {
        self.spawn(handle.name().to_owned(), async move {
            match handle.join().await {
                ExitReason::Normal => Ok(()),
                other => Err(other),
            }
        });
    }

    /// Waits for the next task to end. Returns its name and the reason. `None` if there is no task.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn join_next(&mut self) -> Option<(Arc<str>, ExitReason)> {
        let (id, reason) = match self.set.join_next_with_id().await? {
            Ok((id, reason)) => (id, reason),
            // `spawn::caught` catches the panics of the task itself. Only a panic while the task is dropped comes here.
            Err(error) if error.is_panic() => (error.id(), ExitReason::Panic("panic in a destructor".into())),
            Err(error) => (error.id(), ExitReason::aborted()),
        };
        let name = self.names.remove(&id).unwrap_or_else(|| "unnamed".into());
        Some((name, reason))
    }

    /// The names of the tasks not yet taken by [`Tasks::join_next`], sorted.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.names.values().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Aborts all tasks at their next await. [`Tasks::join_next`] returns each with the error "aborted".
    pub fn abort_all(&mut self) {
        self.set.abort_all();
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("names", &self.names()).finish()
    }
}
