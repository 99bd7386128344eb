//! Broadcast of every processed frame to consumers that may lag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::frame::Batch;

/// A processed batch, shared by all consumers.
#[derive(Clone, Debug)]
pub struct Processed {
    /// How many frames were processed before this batch, since start.
    pub first: u64,
    /// At most 64 frames or 256 KiB.
    pub batch: Batch,
}

/// The sending side of the broadcast, and the place to subscribe.
#[derive(Clone, Debug)]
pub struct Fanout {
    batches_tx: broadcast::Sender<Processed>,
    /// One past the last frame sent, also while nobody listens.
    sent_next: Arc<AtomicU64>,
}

impl Fanout {
    /// Keeps up to `capacity` batches for consumers that are behind; older ones are lost to them.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { batches_tx: broadcast::Sender::new(capacity.max(1)), sent_next: Arc::default() }
    }

    /// A consumer of everything processed from now on; `name` is for the log.
    ///
    /// It sees the end only when every [`Fanout`] is gone.
    #[must_use]
    pub fn subscribe(&self, name: impl Into<String>) -> Consumer {
        let batches_rx = self.batches_tx.subscribe();
        let next = self.sent_next.load(Ordering::Acquire);
        Consumer { name: name.into(), batches_rx, next, missed: 0 }
    }

    /// Gives `processed` to all consumers; never waits.
    pub(super) fn send(&self, processed: Processed) {
        self.sent_next.store(processed.first + processed.batch.len() as u64, Ordering::Release);
        if self.batches_tx.receiver_count() > 0 {
            // Consumers may keep it for long: it must not keep all that its frames were read with. An error means that
            // the last of them left meanwhile.
            let _ = self.batches_tx.send(Processed { batch: processed.batch.compact(), ..processed });
        }
    }
}

/// A consumer of the broadcast. One that lags is warned with the number of frames it missed, and goes on.
#[derive(Debug)]
pub struct Consumer {
    name: String,
    batches_rx: broadcast::Receiver<Processed>,
    next: u64,
    missed: u64,
}

impl Consumer {
    /// The next batch; `None` when the pipeline has ended. Cancel safe.
    pub async fn recv(&mut self) -> Option<Processed> {
        loop {
            match self.batches_rx.recv().await {
                Ok(processed) => {
                    self.note_missed(processed.first);
                    self.next = processed.first + processed.batch.len() as u64;
                    return Some(processed);
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Frames this consumer missed so far because it lagged.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    fn note_missed(&mut self, first: u64) {
        let missed = first.saturating_sub(self.next);
        if missed > 0 {
            self.missed += missed;
            tracing::warn!(consumer = %self.name, missed, "consumer lags, frames were skipped for it");
        }
    }
}
