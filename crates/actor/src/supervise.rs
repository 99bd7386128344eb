//! Supervision: a failed body is run again, as long as restarts stay below a limit.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::mailbox::OnDrop;
use super::spawn::{caught, start};
use super::{ActorHandle, Address, Capacity, ExitReason, Mailbox, Outcome};
use frame::liveness::Liveness;

/// The limit for restarts: at most `max` in any span of `within`. One more failure ends the actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Restarts allowed within the span.
    pub max: usize,
    /// The span.
    pub within: Duration,
}

/// Starts an actor. After an error or a panic, `factory` makes a new body, which continues on the same mailbox.
///
/// Queued messages, messages that [`Mailbox::recv_match`] had passed over, monitors and links stay. Only the message
/// that the failed body was handling is lost. A normal end is final. A failure beyond `restart` escalates: the actor
/// ends with the last reason, which monitors, links and [`ActorHandle::join`] report.
///
/// The body must keep its mailbox. If it moves the mailbox elsewhere, there are two receivers after a restart, and only
/// one of them is woken.
///
/// # Panics
/// Outside a tokio runtime.
pub fn supervise<M, B, F>(
    name: impl Into<Arc<str>>,
    restart: Restart,
    capacity: Capacity,
    factory: B,
) -> (Address<M>, ActorHandle)
where
    M: Send + 'static,
    B: FnMut(Mailbox<M>) -> F + Send + 'static,
    F: Future<Output: Outcome> + Send + 'static,
{
    let core = Arc::new(Core::new(capacity));
    let address = Address::new(&core);
    let name = name.into();
    let restarts = Arc::new(AtomicU64::new(0));
    let supervisor = Supervisor {
        core: Arc::clone(&core),
        name: Arc::clone(&name),
        restarts: Arc::clone(&restarts),
        intensity: Intensity::new(restart),
    };
    (address, start(core, name, restarts, supervisor.run(factory)))
}

/// Does the same as [`supervise`] for a task without messages, such as an accept loop.
///
/// # Panics
/// Outside a tokio runtime.
pub fn supervise_task<B, F>(name: impl Into<Arc<str>>, restart: Restart, mut factory: B) -> ActorHandle
where
    B: FnMut() -> F + Send + 'static,
    F: Future<Output: Outcome> + Send + 'static,
{
    let capacity = Capacity { urgent: 1, routine: 1 };
    let liveness = Liveness::of_task();
    let (_address, mut handle) = supervise(name, restart, capacity, {
        let liveness = liveness.clone();
        move |_: Mailbox<Infallible>| liveness.clone().watch(factory())
    });
    handle.liveness = Some(liveness);
    handle
}

/// Runs the bodies of one actor, one after the other.
struct Supervisor<M> {
    core: Arc<Core<M>>,
    name: Arc<str>,
    restarts: Arc<AtomicU64>,
    intensity: Intensity,
}

impl<M: Send + 'static> Supervisor<M> {
    async fn run<B, F>(mut self, mut factory: B) -> ExitReason
    where
        B: FnMut(Mailbox<M>) -> F,
        F: Future<Output: Outcome>,
    {
        loop {
            let mailbox = Mailbox::new(&self.core, OnDrop::Park);
            let reason = caught(&self.name, || factory(mailbox)).await;
            if reason.is_normal() {
                return reason;
            }
            if !self.intensity.allows(Instant::now()) {
                tracing::error!(task = &*self.name, %reason, "failed too often, not restarted");
                return reason;
            }
            let count = self.restarts.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(task = &*self.name, count, "restarted");
        }
    }
}

/// The recent restarts.
struct Intensity {
    limit: Restart,
    recent: VecDeque<Instant>,
}

impl Intensity {
    fn new(limit: Restart) -> Self {
        Self { limit, recent: VecDeque::new() }
    }

    /// Counts a restart at `now` if the limit allows it. A restart exactly `within` ago has expired.
    fn allows(&mut self, now: Instant) -> bool {
        let within = self.limit.within;
        while self.recent.front().is_some_and(|past| now.duration_since(*past) >= within) {
            self.recent.pop_front();
        }
        let allowed = self.recent.len() < self.limit.max;
        if allowed {
            self.recent.push_back(now);
        }
        allowed
    }
}
