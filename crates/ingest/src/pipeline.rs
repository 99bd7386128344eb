//! From the sessions to the processor: two lanes per source, merged with emergencies first.
//!
//! ```text
//! session -> SourceQueue (two lanes) \
//! session -> SourceQueue (two lanes)  > FanIn -> Processor -> Output (the archive)
//! session -> SourceQueue (two lanes) /    |          |
//!                                       Gate         +-> Fanout (broadcast), Counters, watch
//! ```
//!
//! Modules, in the order in which a frame meets them:
//!
//! * [`queue`]: a session hands a batch to its stream's [`SourceQueue`], bounded by the stream's windows,
//! * [`fan_in`]: picks the next frames, emergencies first, sources of a lane in equal turns,
//! * [`gate`]: holds back routine while the archive has no room for it,
//! * [`processor`]: counts, logs, broadcasts and hands frames to the archive, at most 64 frames of one lane
//!   at a time,
//! * [`fanout`]: consumers that may lag, and learn how many frames they missed,
//! * [`stats`]: counters that are read without a lock.
//!
//! The processor pulls from the fan-in and the fan-in pulls from the queues. Nothing is pushed into a shared
//! channel, so no routine frame can delay an emergency. A slow processor leaves frames where credit accounts
//! for them: in the queues of their streams.

use std::future::Future;

use frame::Batch;

pub mod fan_in;
pub mod fanout;
pub mod gate;
pub mod processor;
pub mod queue;
pub mod stats;
#[cfg(test)]
mod tests;

pub use fan_in::FanIn;
pub use fanout::{Consumer, Fanout, Processed};
pub use gate::{Charge, Gate};
pub use processor::Processor;
pub use queue::{SharedCost, SourceQueue, Sources};
pub use stats::{Counters, PipelineStats};

/// Most frames between fan-in and archive: this many frames can be ahead of an emergency (RFC-0047).
pub const PROCESSOR_FRAMES_MAX: usize = 64;
/// A batch is cut when its payloads reach this many bytes.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Takes the processed frames without loss: the archive. The processor waits for it.
pub trait Output: Send {
    /// Takes `batch`, waiting while there is no room.
    ///
    /// # Errors
    /// [`OutputGone`] when the output will take no more batches.
    fn append(&mut self, batch: Batch) -> impl Future<Output = Result<(), OutputGone>> + Send;

    /// Whether the output takes routine frames without waiting. While it does not, routine frames stay in
    /// their queues, so that the processor holds none when an emergency comes.
    fn has_room(&self) -> bool {
        true
    }

    /// Waits until [`Output::has_room`]. Cancel safe.
    fn room(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The archive takes no more frames. Its own error gives the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the archive accepts no more frames")]
pub struct OutputGone;
