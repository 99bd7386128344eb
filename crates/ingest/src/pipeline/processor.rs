//! The frame processor: counts, logs, broadcasts, and hands everything to the archive.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::coop;

use super::fan_in::FanIn;
use super::fanout::{Fanout, Processed};
use super::stats::{Counters, PipelineStats, snapshot};
use super::{Output, OutputGone};
use frame::Batch;

/// The one stage that every frame passes. It holds one batch at a time, so at most 64 frames.
#[derive(Debug)]
pub struct Processor<O> {
    /// Where batches come from.
    fan_in: FanIn,
    /// Where batches go: the archive.
    output: O,
    /// The broadcast.
    fanout: Fanout,
    /// Counts what was processed.
    counters: Arc<Counters>,
    /// Signals that the counters have changed.
    stats_tx: watch::Sender<PipelineStats>,
}

impl<O: Output> Processor<O> {
    /// A processor that takes from `fan_in`, broadcasts through `fanout` and waits for `output`.
    #[must_use]
    pub fn new(fan_in: FanIn, output: O, fanout: Fanout, counters: Arc<Counters>) -> Self {
        Self { fan_in, output, fanout, counters, stats_tx: watch::Sender::default() }
    }

    /// Signals that the stats changed. To read the stats at any time, take [`snapshot`] of the counters
    /// instead.
    #[must_use]
    pub fn stats_changed(&self) -> watch::Receiver<PipelineStats> {
        self.stats_tx.subscribe()
    }

    /// Processes until the sources are finished and empty, then drops its output and its [`Fanout`].
    ///
    /// # Errors
    /// [`OutputGone`] when the archive has failed. The current batch is not archived then.
    ///
    /// # Cancel safety
    /// Not cancel safe: the current batch is lost.
    pub async fn run(mut self) -> Result<(), OutputGone> {
        let mut first = 0;
        while let Some(batch) = self.fan_in.next_batch(&self.output).await {
            log(&batch);
            self.fanout.send(Processed { first, batch: batch.clone() });
            let (priority, count) = (batch.priority(), batch.len());
            first += count as u64;
            self.output.append(batch).await?;
            self.counters.add_processed(priority, count);
            if self.stats_tx.receiver_count() > 0 {
                self.stats_tx.send_replace(snapshot(&self.counters));
            }
            // With endless input and room, this task would otherwise keep its worker and look hung.
            coop::consume_budget().await;
        }
        Ok(())
    }
}

/// Writes one line per frame at debug. Checks once per batch whether the level is enabled.
fn log(batch: &Batch) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    for frame in batch.iter() {
        tracing::debug!(
            source = frame.origin.stream.source_id,
            seq = frame.sequence,
            priority = %frame.priority,
            kind = %frame.origin.stream.source_kind,
            "processed"
        );
    }
}
