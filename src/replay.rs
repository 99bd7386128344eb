//! Replays a range of an archive into a daemon, as archived replays over the wire.
//!
//! ```text
//! reading ---> scheduler ---> stream (one per source and station) ---> the daemon
//! archive      clock, pause   unacknowledged frames, connection
//! ```
//!
//! * `reading` reads the log on a blocking thread,
//! * `scheduler` hands each frame to its stream when it is due, by `clock`, and says when an epoch ends,
//! * `stream` holds at most one connection, connects again and resumes, `sender` is what it says there,
//! * `control` stops and pauses a run, `tally` counts ([`Progress`]), `report` sums up ([`Report`]).
//!
//! # Epochs
//!
//! A stream begins with the epoch of the run. Where its frames change their own epoch, or a sequence does not rise within
//! its lane, it says BYE and goes on with the next higher epoch, so that sequences stay as they are. Which frame has
//! which epoch follows from the range alone. So a run that is started again with the same range and epoch finds by what
//! the daemon says (`resume_next`, and `fenced` with the stream's current epoch) what it need not send again. It must read
//! the range from its beginning for that, also where it sends from further on ([`Plan::skip_to`]), and ends where
//! retention has removed a part of it.
//!
//! # Limits
//!
//! All frames that were read and are not acknowledged take at most [`UNACKED_BYTES_MAX`]; reading stops there until
//! some are acknowledged. At most [`Plan::connections`] connections are open: the stream that was idle longest says BYE
//! to make room. A replay has at most [`STREAMS_MAX`] streams.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::archive::{Filter, ReadError};
use crate::frame::{ANONYMOUS_EPOCH_MIN, unix_now_ns};

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

use scheduler::Scheduler;

/// Bytes of frames that were read and are not acknowledged, each counted with [`FRAME_OVERHEAD_BYTES`].
pub const UNACKED_BYTES_MAX: usize = 64 << 20;
/// What a frame takes beside its payload.
pub const FRAME_OVERHEAD_BYTES: usize = 256;
/// Streams of one replay; a range with more ends the run.
pub const STREAMS_MAX: usize = 65_536;

/// What to replay, where to, and how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The archive directory, the one of the segments.
    pub dir: PathBuf,
    /// Which frames of it. Without an end it ends where the log ends at the start of the run.
    pub filter: Filter,
    /// `host:port` of the daemon's ingest listener; resolved anew for each connection.
    pub connect: String,
    /// Credential, may be empty.
    pub token: String,
    /// How fast.
    pub speed: Speed,
    /// Longer times without a frame in the recording are shortened to this.
    pub gap_max: Option<Duration>,
    /// The epoch streams begin with, 1 to 2^63-1: [`Plan::epoch_now`], or that of an earlier run of this range.
    pub epoch: u64,
    /// Whether an earlier run had this epoch: what the daemon has of it is not sent again.
    pub goes_on: bool,
    /// Frames of the range below this offset are not sent, and no time passes for them: an earlier run of this range and
    /// epoch was acknowledged them ([`Report::go_on_from`]). They are read all the same, for the epochs of what follows.
    pub skip_to: u64,
    /// Whether the lanes of the recorded streams share a sequence counter (SHARED_SEQUENCE), which the archive does not tell.
    pub shared_sequence: bool,
    /// Connections at a time.
    pub connections: usize,
    /// After a stop: how long to wait for what was sent and is not acknowledged.
    pub linger: Duration,
}

impl Plan {
    /// The epoch of a run that starts now: unix milliseconds.
    #[must_use]
    pub fn epoch_now() -> u64 {
        u64::try_from(unix_now_ns() / 1_000_000).unwrap_or(0).clamp(1, ANONYMOUS_EPOCH_MIN - 1)
    }
}

/// What all parts of a run share.
struct Shared {
    connect: String,
    token: String,
    /// The epoch streams begin with.
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
/// A stream that the daemon refuses for good ends alone and is named in the report; what is wrong with the credential or
/// the version ends all. Streams reconnect without end until [`Control::stop`]. After a stop nothing new is sent, and what
/// was sent is waited for within [`Plan::linger`].
///
/// # Errors
/// The archive cannot be opened. What goes wrong later is in the report.
///
/// # Cancel safety
/// Dropping it stops everything at once; `progress` tells how far it was.
///
/// # Panics
/// When one of its tasks does.
pub async fn run(plan: Plan, control: Arc<Control>, progress: Arc<Progress>) -> Result<Report, ReadError> {
    let started = Instant::now();
    let shared = Arc::new(Shared {
        epoch: plan.epoch.clamp(1, ANONYMOUS_EPOCH_MIN - 1),
        goes_on: plan.goes_on,
        shared_sequence: plan.shared_sequence,
        linger: plan.linger,
        slots: Semaphore::new(plan.connections.max(1)),
        connect: plan.connect,
        token: plan.token,
        control,
        progress,
    });
    let (items, reading) =
        reading::start(plan.dir, plan.filter, plan.goes_on, Arc::clone(&shared.progress)).await?;
    let clock = clock::Clock::new(plan.speed, plan.gap_max);
    let scheduler = Scheduler::new(Arc::clone(&shared), clock, items, plan.connections.max(1));
    let ended = scheduler.skipping_to(plan.skip_to).run().await;
    if let Err(error) = reading.await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
    Ok(Report::new(&shared, ended, started.elapsed()))
}
