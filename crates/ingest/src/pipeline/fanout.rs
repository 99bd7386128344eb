//! Broadcast of every processed frame to consumers that may lag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use frame::Batch;

/// A processed batch, shared by all consumers.
#[derive(Clone, Debug)]
pub struct Processed {
    /// Number of frames processed since the start, before this batch.
    pub first: u64,
    /// At most 64 frames. Only the last frame may bring the payloads above 256 KiB.
    pub batch: Batch,
}

/// The sending side of the broadcast. Consumers subscribe here.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// The channel to the consumers.
    batches_tx: broadcast::Sender<Processed>,
    /// Number of frames processed so far. It also grows while there is no consumer.
    sent_next: Arc<AtomicU64>,
}

impl Fanout {
    /// Keeps up to `capacity` batches for consumers that are behind. Those consumers lose older batches.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { batches_tx: broadcast::Sender::new(capacity.max(1)), sent_next: Arc::default() }
    }

    /// Creates a consumer of every batch that is processed after this call. `name` is for the log.
    ///
    /// The consumer sees the end only when every [`Fanout`] is dropped.
    #[must_use]
    pub fn subscribe(&self, name: impl Into<String>) -> Consumer {
        let batches_rx = self.batches_tx.subscribe();
        let next = self.sent_next.load(Ordering::Acquire);
        Consumer { name: name.into(), batches_rx, next, missed: 0 }
    }

    /// Sends `processed` to all consumers. Never waits.
    pub(super) fn send(&self, processed: Processed) {
        self.sent_next.store(processed.first + processed.batch.len() as u64, Ordering::Release);
        if self.batches_tx.receiver_count() > 0 {
            // Consumers may keep the batch for long, so the batch must not keep the memory of whole reads. An
            // error means that the last consumer has left meanwhile.
            let _ = self.batches_tx.send(Processed { batch: processed.batch.compact(), ..processed });
        }
    }
}

/// A consumer of the broadcast. A consumer that lags logs a warning with the number of missed frames and
/// continues.
#[derive(Debug)]
pub struct Consumer {
    /// The name for the log.
    name: String,
    /// The channel from the sender.
    batches_rx: broadcast::Receiver<Processed>,
    /// Number of frames processed before the next batch, if none is missed.
    next: u64,
    /// Frames that were missed so far.
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
            tracing::warn!(consumer = %self.name, missed, "the consumer is slow, and frames were skipped for it");
        }
    }
}
