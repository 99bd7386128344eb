//! What a measurement has spent, and how it learns that all is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use tokio::sync::Notify;

/// What a measurement took.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) wall: Duration,
    /// Of all threads of this process.
    pub(crate) cpu: Duration,
}

/// Runs from its making to [`Gauge::stop`].
pub(crate) struct Gauge {
    start: Instant,
    cpu_start: ProcessTime,
}

impl Gauge {
    pub(crate) fn start() -> Self {
        Self { cpu_start: ProcessTime::now(), start: Instant::now() }
    }

    pub(crate) fn stop(self) -> Spent {
        Spent { wall: self.start.elapsed(), cpu: self.cpu_start.elapsed() }
    }
}

/// Opens when as many as it was made for are done. Clones are the same latch.
#[derive(Clone)]
pub(crate) struct Latch(Arc<(AtomicU64, Notify)>);

impl Latch {
    pub(crate) fn new(count: u64) -> Self {
        Self(Arc::new((AtomicU64::new(count), Notify::new())))
    }

    /// One more is done.
    pub(crate) fn done(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.notify_one();
        }
    }

    /// Waits until all are done; for one waiter.
    pub(crate) async fn opened(&self) {
        self.0.1.notified().await;
    }
}
