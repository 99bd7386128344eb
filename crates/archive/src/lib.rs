//! The archive: an append-only segment log on stable storage.
//!
//! Every acknowledged frame is synced. Batches of frames come in through an [`Appender`], which puts them into the
//! block of their lane: emergency or routine. The commit thread writes and syncs one block after the other. After the
//! sync it reports to the [`CommitObserver`] which positions became durable. [`open()`] recovers what a crash left. A
//! [`Reader`] reads the same files from any process.
//!
//! This crate never depends on the protocol, on actors, on a command line or on the daemon. All file access goes
//! through [`Storage`].
//!
//! Imports between the folders point down. `aligned`, `config`, `error` and `thread` import only `format` and `storage`.
//!
//! ```text
//! open, archive
//! recover, maintain
//! log
//! read
//! storage
//! format
//! ```
//!
//! | file | purpose |
//! |---|---|
//! | `open.rs` | [`open()`]: recovers the log and starts the threads |
//! | `archive.rs` | [`Archive`] and [`Tuning`]: the handles of a running archive |
//! | `config.rs` | [`Config`] and the limits that follow from it |
//! | `error.rs` | what can go wrong |
//! | `aligned.rs` | memory that starts at a page |
//! | `thread.rs` | threads whose end can be awaited |
//! | `format.rs` | the files, byte by byte |
//! | `format/names.rs` | the names of the files |
//! | `format/encoder.rs` | encodes blocks of frames |
//! | `format/frames.rs`, `frame_range.rs` | decode blocks of frames |
//! | `storage.rs` | [`Storage`]: the file system behind a trait |
//! | `storage/dir.rs` | the archive's directory |
//! | `storage/log_file.rs` | a file of the log, written only at its end |
//! | `storage/write_mode.rs` | direct or cached writes: which, and why |
//! | `read/scan.rs` | walks the blocks of one segment, over damage |
//! | `read/segments.rs` | segments whose headers contradict their names |
//! | `read/index.rs` | the index of a sealed segment |
//! | `read/reader.rs` | [`Reader`]: reads an archive, also while a daemon writes it |
//! | `read/history.rs` | [`History`]: reads a running archive from within the daemon |
//! | `read/inspect.rs` | [`inspect`]: what a directory holds, its segments and indexes |
//! | `read/line.rs` | [`mod@line`]: a frame as a line of text |
//! | `log/appender.rs` | [`Appender`]: hands batches to the commit thread |
//! | `log/commit_queue.rs` | the blocks that are being filled |
//! | `log/committer.rs` | the commit thread: take a block, write, sync, publish |
//! | `log/writer.rs` | the end of the log, where the commit thread writes |
//! | `log/segment.rs` | the segment that is being written |
//! | `log/space.rs` | allocation ahead of need, the reserve, the gate for routine frames |
//! | `log/positions.rs` | the positions of all streams, as of one offset |
//! | `log/position_edits.rs` | [`PositionEdits`]: lowers the epoch of a stream, forgets streams |
//! | `log/edit_request.rs` | what the commit thread is asked to change in the positions |
//! | `log/published.rs` | the state of the archive that other parts can read |
//! | `log/shared.rs` | what the threads share: `tuning.rs`, `signal.rs`, `handover.rs`, `fault.rs` |
//! | `log/thread.rs` | starts the commit thread and reports its end |
//! | `recover.rs` | recovery after a crash |
//! | `recover/tail_scan.rs` | reads the newest segment and decides what is kept |
//! | `recover/lost.rs`, `unreadable.rs` | what recovery moves to `lost/` |
//! | `recover/repair.rs` | [`repair`]: copies what can be read of a damaged archive |
//! | `maintain.rs` | the thread that indexes, exports and expires sealed segments |
//! | `maintain/steps.rs` | [`SegmentStep`]: what is done with each sealed segment |
//! | `maintain/index_file.rs` | writes index files |
//! | `maintain/retention.rs`, `trust.rs` | which segments expire, and when the wall clock is trusted for that |

mod aligned;
mod archive;
mod config;
mod error;
mod format;
mod log;
mod maintain;
mod open;
mod read;
mod recover;
mod storage;
#[cfg(test)]
mod tests;
mod thread;

pub use archive::{AgeHolds, Archive, Tuning};
pub use config::{
    BATCH_FRAMES_MAX, BATCH_PAYLOAD_BYTES, BLOCK_BYTES, Config, ConfigError, PAYLOAD_BYTES_MAX, Retention,
};
pub use error::{AppendError, ArchiveError, OpenError, PositionEditError};
#[cfg(any(test, feature = "test-support"))]
pub use format::encoded;
pub use format::{BlockFrames, Durable, KeptFrames, Received, StreamPosition, log_bytes_max};
pub use log::appender::Appender;
pub use log::commit::{Commit, CommitObserver};
pub use log::position_edits::PositionEdits;
pub use log::published::{ArchiveStats, Status, Summary};
pub use maintain::{AgeHold, SealedSegment, SegmentStep, SegmentStepError, build_indexes};
pub use open::{open, open_with_steps};
pub use read::history::History;
pub use read::index::{BUILD_BYTES as INDEX_BUILD_BYTES, READER_BYTES as INDEX_READER_BYTES};
pub use read::reader::{Damage, Filter, Item, Misnamed, ReadError, Reader, StoredFrame, Visited};
pub use read::{inspect, line};
pub use recover::{Hole, LostFrames, Recovery, RepairError, RepairReport, repair};
pub use storage::log_file::COPY_BYTES;
pub use storage::write_mode::DirectIo;
pub use storage::{Access, DiskStorage, Storage, StorageError, StorageFile, is_no_space};
