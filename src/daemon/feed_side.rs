//! The subscriber side of the daemon: the feed and the outputs. They end after all other parts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::start::Shared;
use super::{Settings, StartError, listen_error, own};
use actor::{Capacity, Mailbox, Tasks, spawn_stage};
use archive::Archive;
use connection::{Entrance, Listener, listener};
use equipment::outputs::{self, Outputs};
use feed::{Context, Durable, Ending, Registry, Subscribers, Tail};
use frame::liveness::Liveness;
use wire::{ErrorCode, WireError};

/// Time before the deadline that is kept to send each subscriber the offset at which it continues later.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Time before the deadline that is kept to cut subscribers off.
const CUT_OFF: Duration = Duration::from_millis(200);
/// Longest wait for the number of subscribers, which is only for the log.
const COUNT_TIMEOUT: Duration = Duration::from_millis(100);

/// Listener, registry and tail of the feed, and the outputs.
pub(super) struct Feed {
    /// The bound address of the listener.
    pub(super) address: SocketAddr,
    /// Listener, registry, tail and manager of the outputs. One that ends early is a failure.
    pub(super) stages: Tasks,
    /// Knows the sessions of the subscribers.
    registry: Registry,
    /// The outputs of the configuration.
    outputs: Outputs,
    /// The current subscribers, for display.
    subscribers: Arc<Subscribers>,
    /// How often the listener was restarted after a failure.
    restarts: Arc<AtomicU64>,
    /// The newest durable frames, from which subscribers are served.
    tail: Arc<Tail>,
    /// Tells the sessions and readers how far the log goes once it ends.
    ending_tx: watch::Sender<Ending>,
    /// Turns true when no new subscriber or reader is let in.
    stop_accepting_tx: watch::Sender<bool>,
}

impl Feed {
    pub(super) fn start(
        settings: &Settings,
        listener: TcpListener,
        archive: &Archive,
        state: &Shared,
        liveness: &mut Vec<(Arc<str>, Liveness)>,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr();
        let address = address
            .map_err(|source| listen_error("feed.listen", settings.live().current().feed.listen, source))?;
        let (ending_tx, ending) = watch::channel(Ending::NotYet);
        let (stop_accepting_tx, stop_accepting) = watch::channel(false);
        let tail = Arc::clone(&state.tail);
        let entrance = Entrance::new(Listener::Feed, Arc::clone(&state.refusals));
        let durable = Durable::new(archive.history(), Arc::clone(&tail));
        let config = settings.live().subscribe();
        let outputs = outputs::Context {
            config: config.clone(),
            durable: durable.clone(),
            streams: Arc::clone(&state.table),
            ending: ending.clone(),
            data_dir: settings.live().at_start().data_dir.clone(),
        };
        let (outputs, outputs_handle) = Outputs::start(outputs, config, stop_accepting.clone());
        let context = Context::new(settings.feed_policy(), entrance, durable, ending);
        let subscribers = context.subscribers();
        let (registry, registry_handle) = Registry::start(context);
        let listener_handle = listener::start("feed listener", listener, registry.clone(), stop_accepting);
        let restarts = listener_handle.restarts_counter();
        let encoder = Arc::clone(&tail);
        let (_, tail_handle) =
            spawn_stage("feed tail", Capacity { urgent: 1, routine: 1 }, |_: Mailbox<()>| async move {
                encoder.run().await;
            });
        let mut stages = Tasks::new();
        for handle in [listener_handle, registry_handle, tail_handle, outputs_handle] {
            own(handle, &mut stages, liveness);
        }
        Ok(Self {
            address,
            stages,
            registry,
            outputs,
            subscribers,
            restarts,
            tail,
            ending_tx,
            stop_accepting_tx,
        })
    }

    /// The outputs.
    pub(super) fn outputs(&self) -> Outputs {
        self.outputs.clone()
    }

    /// The current subscribers.
    pub(super) fn subscribers(&self) -> Arc<Subscribers> {
        Arc::clone(&self.subscribers)
    }

    /// How often the listener was restarted after a failure.
    pub(super) fn restarts(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.restarts)
    }

    /// Lets no new subscriber in. Existing subscribers continue.
    pub(super) fn begin_drain(&self) {
        self.stop_accepting_tx.send_replace(true);
        self.ending_tx.send_replace(Ending::Draining);
    }

    /// Waits until every subscriber and every output has ended.
    async fn drain(&self) {
        // A registry or a manager of outputs that has ended has drained.
        let _ = tokio::join!(self.registry.drain(Duration::MAX), self.outputs.drain(Duration::MAX));
    }

    /// Serves the subscribers and the readers of outputs up to `head`, the end of the log, and ends them. `None` means
    /// that the archive has failed: they end at once.
    ///
    /// A subscriber that has not taken everything shortly before `deadline` gets the position to continue
    /// from. If the subscriber does not take even that, it is cut off. It loses nothing, because the log has
    /// the frames.
    pub(super) async fn finish(mut self, head: Option<u64>, deadline: Instant) {
        match head {
            Some(head) => drop(self.ending_tx.send_replace(Ending::Final(head))),
            None => {
                self.registry.stop_all(failed()).await;
                self.outputs.stop().await;
            }
        }
        self.tail.close();
        if timeout_at(deadline - LAST_WORDS, self.drain()).await.is_err() {
            let left = self.registry.count(COUNT_TIMEOUT).await.unwrap_or(0);
            tracing::warn!(
                subscribers = left,
                "subscribers did not take all frames in time and must resume later"
            );
            self.registry.stop_all(draining()).await;
            self.outputs.stop().await;
            if timeout_at(deadline - CUT_OFF, self.drain()).await.is_err() {
                self.stages.abort_all();
            }
        }
        drop((self.registry, self.outputs));
        while self.stages.join_next().await.is_some() {}
    }
}

fn draining() -> WireError {
    WireError::new(
        ErrorCode::Draining,
        "the daemon is shutting down; resume at the offset in detail when it is back",
    )
}

fn failed() -> WireError {
    WireError::new(ErrorCode::StorageFailed, "the daemon has failed and ends: resume when it is back")
}
