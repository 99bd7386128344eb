//! The one place where tasks of actors are started.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::task::JoinHandle;

use super::core::Core;
use super::mailbox::OnDrop;
use super::{Address, Capacity, ExitReason, Mailbox};
use frame::liveness::Liveness;

/// The return type of a body: nothing, or a result whose error becomes [`ExitReason::Error`].
pub trait Outcome {
    /// The reason for this outcome.
    fn into_reason(self) -> ExitReason;
}

impl Outcome for () {
    fn into_reason(self) -> ExitReason {
        ExitReason::Normal
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn into_reason(self) -> ExitReason {
        match self {
            Ok(()) => ExitReason::Normal,
            Err(error) => ExitReason::Error(format!("{error:#}").into()),
        }
    }
}

/// The handle with which the owner holds an actor or a supervised task. Dropping it aborts the actor.
#[must_use = "dropping it aborts the actor"]
#[derive(Debug)]
pub struct ActorHandle {
    name: Arc<str>,
    restarts: Arc<AtomicU64>,
    task: JoinHandle<ExitReason>,
    /// `Some` for stages only.
    pub(super) liveness: Option<Liveness>,
}

/// Starts an actor that runs `body` on its own mailbox.
///
/// A panic in the body is caught, logged under `name`, and ends the actor with [`ExitReason::Panic`]. The `Down`s are
/// sent after the body and everything it held have been dropped.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn<M, B, F>(name: impl Into<Arc<str>>, capacity: Capacity, body: B) -> (Address<M>, ActorHandle)
where
    M: Send + 'static,
    B: FnOnce(Mailbox<M>) -> F + Send + 'static,
    F: Future<Output: Outcome> + Send + 'static,
{
    let core = Arc::new(Core::new(capacity));
    let address = Address::new(&core);
    let mailbox = Mailbox::new(&core, OnDrop::Abandon);
    let name = name.into();
    let label = Arc::clone(&name);
    let handle =
        start(core, name, Arc::default(), async move { caught(&label, move || body(mailbox)).await });
    (address, handle)
}

/// [`spawn`] for an actor that is a stage: its handle has a [`Liveness`].
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn_stage<M, B, F>(
    name: impl Into<Arc<str>>,
    capacity: Capacity,
    body: B,
) -> (Address<M>, ActorHandle)
where
    M: Send + 'static,
    B: FnOnce(Mailbox<M>) -> F + Send + 'static,
    F: Future<Output: Outcome> + Send + 'static,
{
    let liveness = Liveness::of_task();
    let (address, mut handle) = spawn(name, capacity, {
        let liveness = liveness.clone();
        |mailbox| liveness.watch(body(mailbox))
    });
    handle.liveness = Some(liveness);
    (address, handle)
}

/// Runs `life` as the task of the actor behind `core`. The end is announced after `life` is dropped.
pub(super) fn start<M: Send + 'static>(
    core: Arc<Core<M>>,
    name: Arc<str>,
    restarts: Arc<AtomicU64>,
    life: impl Future<Output = ExitReason> + Send + 'static,
) -> ActorHandle {
    // The body is on the heap. Otherwise each wrapper in the task would reserve memory as large as the body.
    let life = Box::pin(life);
    // Fields are dropped in this order, even if the task is aborted before its first poll.
    let parts = (life, Ending { core, reason: None });
    let task = async move {
        let parts = parts;
        let (life, mut ending) = parts;
        let reason = life.await;
        ending.reason = Some(reason.clone());
        drop(ending);
        reason
    };
    #[allow(clippy::disallowed_methods, reason = "this is the owner: the handle joins or aborts it")]
    let task = tokio::spawn(task);
    ActorHandle { name, restarts, task, liveness: None }
}

/// Runs a body to its end and returns the reason. A panic is logged.
pub(super) async fn caught<F: Future<Output: Outcome>>(name: &str, body: impl FnOnce() -> F) -> ExitReason {
    let mut body = pin!(async move { body().await.into_reason() });
    let reason = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(payload) => Poll::Ready(ExitReason::Panic(panic_message(&*payload))),
    })
    .await;
    match &reason {
        ExitReason::Panic(message) => tracing::error!(task = name, panic = %message, "panicked"),
        // The owner and the monitors decide what an error means.
        ExitReason::Error(error) => tracing::debug!(task = name, %error, "ended with an error"),
        ExitReason::Normal | ExitReason::Gone => tracing::debug!(task = name, "ended"),
    }
    reason
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> Arc<str> {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic without a message").into()
}

/// Announces the end of an actor when dropped.
struct Ending<M> {
    core: Arc<Core<M>>,
    /// `None` if the task was dropped before the body ended.
    reason: Option<ExitReason>,
}

impl<M> Drop for Ending<M> {
    fn drop(&mut self) {
        let reason = self.reason.take().unwrap_or_else(|| {
            if std::thread::panicking() {
                ExitReason::Panic("panic in a destructor".into())
            } else {
                ExitReason::aborted()
            }
        });
        self.core.end(&reason);
    }
}

impl ActorHandle {
    /// The name of the actor.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often the body was restarted after a failure. 0 without supervision.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// The liveness of the loop, if the actor is a stage.
    #[must_use]
    pub fn liveness(&self) -> Option<Liveness> {
        self.liveness.clone()
    }

    /// The counter behind [`ActorHandle::restarts`], for readers without the handle.
    #[must_use]
    pub fn restarts_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.restarts)
    }

    /// Waits for the actor's end.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropping it aborts the actor. [`Address::closed`] waits without owning the actor.
    pub async fn join(mut self) -> ExitReason {
        match (&mut self.task).await {
            Ok(reason) => reason,
            Err(error) if error.is_panic() => ExitReason::Panic("panic in a destructor".into()),
            Err(_) => ExitReason::aborted(),
        }
    }

    /// Aborts the actor at its next await. The actor ends with the error "aborted".
    pub fn abort(&self) {
        self.task.abort();
    }
}

impl Drop for ActorHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
