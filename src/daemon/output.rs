//! The output of the processor: the archive. Replays that are not stored end here.

use std::sync::Arc;

use archive::{self, Appender};
use frame::{Batch, FrameRun, Origin, SourceKind};
use ingest::StreamTable;
use ingest::pipeline::{Charge, Output, OutputGone};

/// Each batch of the fan-in must fit into one batch of the archive, because [`DaemonOutput`] does not split batches.
const _: () = {
    assert!(ingest::pipeline::PROCESSOR_FRAMES_MAX <= archive::BATCH_FRAMES_MAX);
    assert!(ingest::pipeline::BATCH_BYTES_MAX <= archive::BATCH_PAYLOAD_BYTES);
};

/// Takes the batches that the processor has processed and broadcast.
pub(super) enum DaemonOutput {
    /// All frames are archived.
    All(Appender),
    /// Replays are not archived (`archive.store_replays = false`).
    LiveOnly {
        /// Takes the live frames.
        appender: Appender,
        /// Learns that a replayed frame has passed.
        table: Arc<StreamTable>,
    },
}

impl DaemonOutput {
    pub(super) fn new(store_replays: bool, appender: Appender, table: Arc<StreamTable>) -> Self {
        if store_replays { Self::All(appender) } else { Self::LiveOnly { appender, table } }
    }
}

/// Returns the function that computes the archive space of a frame in bytes, from its origin and the length of its
/// payload. The gate of routine frames adds these up.
pub(super) fn charge(store_replays: bool) -> Charge {
    if store_replays {
        archive::log_bytes_max
    } else {
        |origin, payload_bytes| {
            if is_replay(origin) { 0 } else { archive::log_bytes_max(origin, payload_bytes) }
        }
    }
}

fn is_replay(origin: &Origin) -> bool {
    origin.stream.source_kind == SourceKind::ArchivedReplay
}

impl Output for DaemonOutput {
    async fn append(&mut self, batch: Batch) -> Result<(), OutputGone> {
        match self {
            Self::All(appender) => archive(appender, batch).await,
            Self::LiveOnly { appender, .. } if !batch.runs().iter().any(|run| is_replay(run.origin())) => {
                archive(appender, batch).await
            }
            Self::LiveOnly { appender, table } => {
                let live: Vec<FrameRun> =
                    batch.runs().iter().filter(|run| !is_replay(run.origin())).cloned().collect();
                if !live.is_empty() {
                    archive(appender, Batch::new(batch.priority(), live)).await?;
                }
                // The frames are in the archive that they come from. Their sender waits only until they have
                // passed.
                for Replayed { origin, next, frames } in replays_by_origin(&batch) {
                    table.advance_not_stored(origin, batch.priority(), next, frames);
                }
                Ok(())
            }
        }
    }

    fn has_room(&self) -> bool {
        self.appender().has_room()
    }

    async fn room(&self) {
        self.appender().room().await;
    }
}

impl DaemonOutput {
    const fn appender(&self) -> &Appender {
        match self {
            Self::All(appender) | Self::LiveOnly { appender, .. } => appender,
        }
    }
}

async fn archive(appender: &Appender, batch: Batch) -> Result<(), OutputGone> {
    appender.append(batch).await.map_err(|error| {
        tracing::error!(%error, "a batch was not archived");
        OutputGone
    })
}

/// The replayed frames of one origin in a batch.
#[derive(Debug, PartialEq, Eq)]
struct Replayed<'a> {
    /// Stream and epoch of the frames.
    origin: &'a Arc<Origin>,
    /// One past their highest sequence.
    next: u64,
    /// Their number.
    frames: u64,
}

/// The replayed frames of `batch` by origin. A linear search is enough, because a batch is small.
fn replays_by_origin(batch: &Batch) -> Vec<Replayed<'_>> {
    let mut all: Vec<Replayed<'_>> = Vec::new();
    for run in batch.runs().iter().filter(|run| is_replay(run.origin())) {
        let (origin, frames) = (run.origin(), run.len() as u64);
        let next = run.metas().last().map_or(0, |meta| meta.sequence + 1);
        match all.iter_mut().rev().find(|replayed| replayed.origin == origin) {
            Some(replayed) => {
                replayed.next = replayed.next.max(next);
                replayed.frames += frames;
            }
            None => all.push(Replayed { origin, next, frames }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use SourceKind::{ArchivedReplay, LiveUplink};
    use frame::{Frame, FrameFlags, FramePriority, Station, StreamKey, batch_of};

    fn origin(source_id: u32, source_kind: SourceKind) -> Arc<Origin> {
        let stream = StreamKey { source_id, source_kind, station: Station::default() };
        Arc::new(Origin { stream, epoch: 1 })
    }

    fn frame(origin: &Arc<Origin>, sequence: u64) -> Frame {
        Frame {
            source_id: origin.stream.source_id,
            source_kind: origin.stream.source_kind,
            priority: FramePriority::Routine,
            flags: FrameFlags::default(),
            sequence,
            ert_ns: 0,
            received_ns: 0,
            origin: Arc::clone(origin),
            payload: bytes::Bytes::from_static(b"payload"),
        }
    }

    #[test]
    fn replays_are_summed_by_origin() {
        let (a, b, live) = (origin(1, ArchivedReplay), origin(2, ArchivedReplay), origin(1, LiveUplink));
        let batch = batch_of([frame(&a, 7), frame(&live, 9), frame(&b, 2), frame(&a, 8)]);
        let sums: Vec<_> = replays_by_origin(&batch)
            .iter()
            .map(|replayed| (replayed.origin.stream.source_id, replayed.next, replayed.frames))
            .collect();
        assert_eq!(sums, [(1, 9, 2), (2, 3, 1)]);
    }

    #[test]
    fn replays_that_are_not_stored_need_no_space() {
        let (replay, live) = (origin(1, ArchivedReplay), origin(1, LiveUplink));
        assert_eq!(charge(false)(&replay, 7), 0);
        assert_eq!(charge(false)(&live, 7), archive::log_bytes_max(&live, 7));
        assert_eq!(charge(true)(&replay, 7), archive::log_bytes_max(&replay, 7));
    }
}
