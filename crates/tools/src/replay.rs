//! Replays a range of an archive into a daemon, as archived replays over the wire.
//!
//! ```text
//! reading ---> scheduler ---> stream (one per source and station) ---> the daemon
//! archive      clock, pause   unacknowledged frames, connection
//! ```
//!
//! * `reading` reads the log on a blocking thread.
//! * `scheduler` hands each frame to its stream when `clock` says it is due, and decides when an epoch ends.
//! * `stream` holds at most one connection, reconnects and resumes. `sender` speaks for it on the connection.
//! * `control` stops and pauses a run, `tally` counts ([`Progress`]), `report` summarizes ([`Report`]).
//!
//! # Epochs
//!
//! A stream begins with the epoch of the run. If the recorded frames change their epoch, or if a sequence does not rise
//! within its lane, the stream says BYE and continues with the next higher epoch. So sequences stay as they are. The
//! range alone determines which frame has which epoch.
//!
//! A run can be repeated with the same range and epoch. The daemon then reports what it already has: `resume_next`, or
//! `fenced` with the current epoch of the stream. The run does not send these frames again. It must read the range from
//! the beginning to compute the epochs, even if it sends only from a later offset ([`Plan::skip_to`]). It ends where
//! retention has removed a part of the range.
//!
//! # Limits
//!
//! All unacknowledged frames in memory take at most [`UNACKED_BYTES_MAX`]. Reading waits at this limit. At most
//! [`Sending::connections`] connections are open: to make room, the stream that was idle longest says BYE. A replay has at
//! most [`STREAMS_MAX`] streams.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use archive::{Filter, ReadError};
use frame::{ANONYMOUS_EPOCH_MIN, unix_now_ns};

mod clock;
mod control;
mod reading;
mod report;
mod scheduler;
mod sender;
mod stream;
mod tally;

pub use clock::Speed;
pub use control::Control;
pub use reading::end_of;
pub use report::{Report, StreamReport};
pub use tally::{Counts, Progress};

pub(crate) use reading::{BATCHES_MAX, Batch, Read};

use clock::Clock;
use scheduler::Scheduler;

/// Upper bound in bytes of frames that were read and are not acknowledged. Each frame counts [`FRAME_OVERHEAD_BYTES`]
/// more.
pub const UNACKED_BYTES_MAX: usize = 64 << 20;
/// Memory of a frame besides its payload.
pub const FRAME_OVERHEAD_BYTES: usize = 256;
/// Maximum number of streams of one replay. A range with more streams ends the run.
pub const STREAMS_MAX: usize = 65_536;

/// What to replay, where to send it, and how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The archive directory, which holds the segments.
    pub dir: PathBuf,
    /// The selected frames. A range without an end gets the end of the log at the start of the run.
    pub filter: Filter,
    /// The speed relative to the recording.
    pub speed: Speed,
    /// Longer times without a frame in the recording are shortened to this duration.
    pub gap_max: Option<Duration>,
    /// Frames of the range below this offset are not sent, and no time passes for them. An earlier run of this range
    /// and epoch got them acknowledged ([`Report::go_on_from`]). They are still read, because they determine the epochs
    /// of later frames.
    pub skip_to: u64,
    /// Where to send it.
    pub sending: Sending,
}

/// Where frames are sent, and in which epoch.
#[derive(Clone, Debug)]
pub struct Sending {
    /// `host:port` of the daemon's ingest listener. The name is resolved for each connection.
    pub connect: String,
    /// TLS of the connections, if they are encrypted.
    pub tls: Option<tls::Client>,
    /// Credential, may be empty.
    pub token: String,
    /// The first epoch of each stream, 1 to 2^63-1: [`epoch_now`], or the epoch of an earlier run of this range.
    pub epoch: u64,
    /// Whether an earlier run had this epoch. If so, frames that the daemon has are not sent again.
    pub goes_on: bool,
    /// Whether the lanes of the recorded streams share a sequence counter (SHARED_SEQUENCE). The archive does not
    /// record this.
    pub shared_sequence: bool,
    /// Maximum number of open connections.
    pub connections: usize,
    /// After a stop: how long to wait for acknowledgements of frames that were sent.
    pub linger: Duration,
}

/// The epoch of a run that starts now: unix milliseconds.
#[must_use]
pub fn epoch_now() -> u64 {
    u64::try_from(unix_now_ns() / 1_000_000).unwrap_or(0).clamp(1, ANONYMOUS_EPOCH_MIN - 1)
}

/// Frames that a blocking thread reads, in the order in which they are sent. The thread ends when `items` is dropped.
pub(crate) struct Recording {
    pub(crate) items: mpsc::Receiver<Read>,
    pub(crate) thread: JoinHandle<()>,
}

/// The state that all parts of a run share.
struct Shared {
    connect: String,
    tls: Option<tls::Client>,
    token: String,
    /// The first epoch of each stream.
    epoch: u64,
    /// Whether the daemon may know this epoch from an earlier run.
    goes_on: bool,
    shared_sequence: bool,
    linger: Duration,
    control: Arc<Control>,
    progress: Arc<Progress>,
    /// One permit per connection.
    slots: Semaphore,
}

/// Replays `plan` to its end and reports.
///
/// A stream that the daemon refuses permanently ends alone, and the report names it. A wrong credential or version ends
/// all streams. Streams reconnect until [`Control::stop`]. After a stop nothing new is sent, and the run waits for
/// acknowledgements for at most [`Sending::linger`].
///
/// # Errors
/// The archive cannot be opened. Later errors are in the report.
///
/// # Cancel safety
/// Dropping it stops everything at once. `progress` has the counts so far.
///
/// # Panics
/// If one of its tasks panics.
pub async fn run(plan: Plan, control: Arc<Control>, progress: Arc<Progress>) -> Result<Report, ReadError> {
    let recording =
        reading::start(plan.dir, plan.filter, plan.sending.goes_on, Arc::clone(&progress)).await?;
    let clock = Clock::new(plan.speed, plan.gap_max);
    Ok(play(plan.sending, clock, plan.skip_to, recording, control, progress).await)
}

/// Sends `recording` as fast as the daemon gives credit, as [`run`] does. The offset of a frame is its position in the
/// recording.
pub(crate) async fn send(
    sending: Sending,
    recording: Recording,
    control: Arc<Control>,
    progress: Arc<Progress>,
) -> Report {
    play(sending, Clock::new(Speed::Max, None), 0, recording, control, progress).await
}

async fn play(
    sending: Sending,
    clock: Clock,
    skip_to: u64,
    recording: Recording,
    control: Arc<Control>,
    progress: Arc<Progress>,
) -> Report {
    let started = Instant::now();
    let connections = sending.connections.max(1);
    let shared = Arc::new(Shared {
        epoch: sending.epoch.clamp(1, ANONYMOUS_EPOCH_MIN - 1),
        goes_on: sending.goes_on,
        shared_sequence: sending.shared_sequence,
        linger: sending.linger,
        slots: Semaphore::new(connections),
        connect: sending.connect,
        tls: sending.tls,
        token: sending.token,
        control,
        progress,
    });
    let Recording { items, thread } = recording;
    let scheduler = Scheduler::new(Arc::clone(&shared), clock, items, connections);
    let ended = scheduler.skipping_to(skip_to).run().await;
    // After a stop the thread may wait for input that does not come.
    if ended.stopped_at.is_none()
        && let Err(error) = thread.await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
    Report::new(&shared, ended, started.elapsed())
}
