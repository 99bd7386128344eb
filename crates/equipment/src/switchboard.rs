//! Runs named actors as the configuration and operators say: the input links of [`crate::links`] and the outputs of
//! [`crate::outputs`].
//!
//! A manager owns the actors. It starts those that are new in the configuration, ends those that are gone, and restarts
//! those that have changed. Others go on, also those that an operator has switched on or off. A [`Switchboard`] is the
//! handle to the manager, a [`Reporters`] only reads.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use actor::{ActorHandle, Address, CallError, Capacity, Mailbox, Reply, spawn_stage};
use config::Config;

mod manager;
#[cfg(test)]
mod tests;

use manager::{Manager, Message};

/// Longest time of a request. The manager only reads tables, so a longer time means that it hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Room in the manager's mailbox. While a lane is full, callers wait.
const CAPACITY: Capacity = Capacity { urgent: 4, routine: 64 };

/// The order to an actor to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End;

/// What a switchboard runs. The value holds what the actors need from the rest of the daemon.
pub trait Kind: Send + Sync + 'static {
    /// The word for one of them, such as `link`.
    const NAME: &'static str;
    /// The configuration of one.
    type Config: Clone + PartialEq + Send + Sync + 'static;
    /// The state of one. It outlives restarts.
    type Status: Status<Self::Config, Self::Report>;
    /// What operators see of one.
    type Report: Clone + 'static;

    /// All of them in the configuration `after`, which replaces `before`.
    fn configured<'a>(before: &Config, after: &'a Config) -> Vec<Configured<'a, Self::Config>>;

    /// Runs one until it is ordered to end or the daemon drains.
    fn run(
        self: Arc<Self>,
        config: Arc<Self::Config>,
        status: Arc<Self::Status>,
        mailbox: Mailbox<End>,
    ) -> impl Future<Output = ()> + Send;
}

/// The state and the counts of one actor. The actor writes them.
pub trait Status<C, R>: Default + Send + Sync + 'static {
    /// Forgets what belongs to the configuration before. The counts go on.
    fn reconfigured(&self);

    /// The actor does not run: it is switched off, or has failed for the reason `failure`.
    fn stopped(&self, failure: Option<String>);

    /// What operators see, with these of its parts: channels of a link, readers of an output.
    fn report(&self, config: &C, parts: Range<usize>) -> R;
}

/// What the configuration says of one actor.
pub struct Configured<'a, C> {
    /// Its name, which is unique.
    pub name: &'a str,
    /// Its configuration.
    pub config: &'a C,
    /// Whether it runs until an operator switches it off.
    pub is_enabled: bool,
    /// Whether it must restart, even if its own configuration is the same.
    pub must_restart: bool,
}

/// A handle to the actors. Cheap to clone.
#[derive(Clone)]
pub struct Switchboard<R> {
    /// The word for one of the actors.
    kind: &'static str,
    /// The mailbox of the manager.
    address: Address<Message>,
    /// The actors, for those who only read.
    list: Reporters<R>,
}

/// The manager has ended, or hangs. It ends with a drain.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the {kind}s do not answer: {source}")]
pub struct Unanswered {
    /// The word for one of the actors.
    kind: &'static str,
    /// Why there is no answer.
    source: CallError,
}

impl<R: Clone + 'static> Switchboard<R> {
    /// Starts the actors of the configuration. `draining` turns true when the daemon drains: then the actors end by
    /// themselves, and none is started.
    pub fn start<K: Kind<Report = R>>(
        kind: K,
        config: watch::Receiver<Arc<Config>>,
        draining: watch::Receiver<bool>,
    ) -> (Self, ActorHandle) {
        let list = Reporters(Arc::new(Mutex::new(Arc::new([]))));
        let own = list.clone();
        let (address, handle) = spawn_stage(format!("{}s", K::NAME), CAPACITY, move |mailbox| {
            Manager::new(kind, own, mailbox).serve(config, draining)
        });
        (Self { kind: K::NAME, address, list }, handle)
    }

    /// Switches an actor on or off, until its configuration changes or the daemon restarts. Returns false if the
    /// configuration does not have it.
    ///
    /// # Errors
    /// When the manager has ended, or hangs.
    pub async fn switch(&self, name: &str, is_on: bool) -> Result<bool, Unanswered> {
        let name = name.to_owned();
        let switched = self.address.call(CALL_TIMEOUT, |reply| Message::Switch { name, is_on, reply }).await;
        switched.map_err(|source| self.unanswered(source))
    }

    /// Orders every actor to end at once. None is started after that.
    pub async fn stop(&self) {
        // A manager that is gone has no actors.
        let _ = self.address.send_urgent(Message::Stop).await;
    }

    /// Waits until every actor has ended by itself. None is started after that. The daemon must be draining.
    ///
    /// # Errors
    /// When `timeout` passes first, or the manager has ended before.
    pub async fn drain(&self, timeout: Duration) -> Result<(), Unanswered> {
        let drained = self.address.call_urgent(timeout, |reply: Reply<()>| Message::Drain(reply)).await;
        drained.map_err(|source| self.unanswered(source))
    }

    /// A handle that only reads.
    #[must_use]
    pub fn list(&self) -> Reporters<R> {
        self.list.clone()
    }

    /// The word for one of them, such as `link`.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    const fn unanswered(&self, source: CallError) -> Unanswered {
        Unanswered { kind: self.kind, source }
    }
}

/// Makes reports of one actor.
pub struct Reporter<R> {
    /// The name of the actor.
    name: String,
    /// Makes a report with these of its parts.
    report: Box<dyn Fn(Range<usize>) -> R + Send + Sync>,
}

impl<R> Reporter<R> {
    /// The report now, with these of its parts: channels of a link, readers of an output.
    #[must_use]
    pub fn report(&self, parts: Range<usize>) -> R {
        (self.report)(parts)
    }
}

/// The actors of the configuration in force, as readers find them. Cheap to clone.
#[derive(Clone)]
pub struct Reporters<R>(Arc<Mutex<Arc<[Reporter<R>]>>>);

impl<R> Reporters<R> {
    /// All actors, by name. Each report is made when it is asked for, so that a reader need not hold all of them.
    #[must_use]
    pub fn reporters(&self) -> Arc<[Reporter<R>]> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The report of the actor `name`, with these of its parts.
    #[must_use]
    pub fn report(&self, name: &str, parts: Range<usize>) -> Option<R> {
        self.reporters().iter().find(|actor| actor.name == name).map(|actor| actor.report(parts))
    }

    fn set(&self, reporters: Arc<[Reporter<R>]>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reporters;
    }
}
