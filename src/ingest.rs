//! The source side: a listener, and a session per connection that speaks protocol v1 to the letter.
//!
//! In the order a connection takes:
//!
//! * [`crate::connection::listener`]: accepts, and hands sockets to the registry,
//! * [`crate::connection::entrance`]: where a connection is until it has said a valid HELLO,
//! * [`registry`]: the actor that owns every session, keeps the limits and decides who speaks for a stream,
//! * `session`: HELLO to BYE on one connection,
//! * [`stream`]: what outlives a connection: epoch, positions, queue, and whose turn it is to speak,
//! * `acks`: when a session hears that routine frames are durable,
//! * `sequences`: which sequences of a stream have not come,
//! * [`books`]: received = archived + not stored + duplicates + rejected + in flight.
//!
//! A session never waits for the pipeline: a client that keeps to its credit is always read. It learns through
//! its stream that frames left the queue (credit) or reached the disk (ACK).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::connection::{CONNECTION_BYTES, Credentials, Entrance};
use crate::frame::{BufferPool, Lanes, weight_max};

mod acks;
pub mod books;
pub mod flow;
pub mod registry;
mod sequences;
mod session;
mod sessions;
mod slots;
pub mod stream;
mod stream_edits;

pub use books::{Books, LaneCount, Totals};
pub use flow::{LaneTimes, Position, StreamState, StreamView};
pub use registry::{Registry, RegistryError};
pub use stream::{EpochReset, ResetRefused, StreamLimits, StreamTable};
pub use stream::{FORGET_MAX, ForgetRefused, Forgetting, Selected, Selector, glob};
pub use stream_edits::{EditError, StreamEdits};

/// Limits and defaults of the source side.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Connections with a valid HELLO at a time; one more gets `busy`, unless it takes a stream over.
    pub max_connections: usize,
    /// Of these at a time from one address; one more gets `busy`.
    pub max_connections_per_address: usize,
    /// From connecting to a complete HELLO, else `idle`.
    pub hello_timeout: Duration,
    /// For clients that ask for none; whole seconds, 1 to 300.
    pub heartbeat: Duration,
    /// Longest body in bytes after WELCOME.
    pub message_bytes_max: usize,
    /// Cost that may wait per stream; raised to one maximal message.
    pub windows: Lanes<u64>,
    /// Streams whose position is kept; a new one beyond gets `limit`.
    pub max_streams: usize,
    /// Streams of one source id; a new one beyond gets `limit`.
    pub max_streams_per_source: usize,
    /// In a drain nothing is read after this long.
    pub drain_read_max: Duration,
    /// How often per minute a stream may change its connection while one is open; then `busy`.
    pub max_takeovers_per_minute: usize,
}

impl IngestConfig {
    /// How many streams there may be.
    #[must_use]
    pub const fn stream_limits(&self) -> StreamLimits {
        StreamLimits { total: self.max_streams, per_source: self.max_streams_per_source }
    }

    /// The windows in force: never smaller than one maximal message.
    #[must_use]
    pub fn windows(&self) -> Lanes<u64> {
        self.windows.map(|window| window.max(self.message_bytes_max as u64))
    }

    /// What one connection may hold in bytes: what frames may keep that fill both windows, the read buffer and
    /// [`CONNECTION_BYTES`].
    #[must_use]
    pub fn connection_bytes(&self) -> u64 {
        let Lanes { emergency, routine } = self.windows().map(weight_max);
        emergency
            .saturating_add(routine)
            .saturating_add(self.read_buffer_bytes())
            .saturating_add(CONNECTION_BYTES)
    }

    /// What the beginning of a message may hold whose rest has not come, in bytes.
    fn read_buffer_bytes(&self) -> u64 {
        if self.message_bytes_max <= READ_BUFFER_BYTES_MIN {
            READ_BUFFER_BYTES_MIN as u64
        } else {
            self.message_bytes_max.max(session::input::READ_BYTES) as u64
        }
    }
}

/// Room for the beginning of a message, however short the messages are, in bytes. A longer one stays where it was read.
const READ_BUFFER_BYTES_MIN: usize = 16 << 10;
const _: () = assert!(READ_BUFFER_BYTES_MIN <= session::input::MOVED_BYTES_MAX);

/// Buffers that wait to be read into, at most.
pub const FREE_BUFFERS_MAX: usize = 64;
/// What each of them takes at most, in bytes, with what was noted of the smallest frames in each lane, in lists that double.
pub const BUFFER_BYTES_MAX: usize = session::input::READ_BYTES * (1 + 2 * 2);

/// A pool of the buffers that sessions read into.
#[must_use]
pub fn buffers() -> Arc<BufferPool> {
    BufferPool::new(session::input::READ_BYTES, FREE_BUFFERS_MAX)
}

/// What a connection is taken on, as long as it is in force.
#[derive(Debug)]
pub struct SessionPolicy {
    /// Limits and defaults. A connection keeps those that were in force when it came.
    pub config: Arc<IngestConfig>,
    /// Who may speak for which source; asked once, when HELLO is there.
    pub credentials: Credentials,
}

impl SessionPolicy {
    /// What is to be in force.
    #[must_use]
    pub fn new(config: IngestConfig, credentials: Credentials) -> Arc<Self> {
        Arc::new(Self { config: Arc::new(config), credentials })
    }
}

/// What every session shares.
#[derive(Debug)]
pub struct Context {
    /// Where connections are before they are let in.
    pub entrance: Arc<Entrance>,
    /// What is in force now. To read it takes a lock: once for a connection, never for a frame.
    pub policy: watch::Receiver<Arc<SessionPolicy>>,
    /// Where sources are registered.
    pub router: crate::pipeline::Router,
    /// What sessions that want the catalog get, at once and whenever it changes.
    pub catalog: tokio::sync::watch::Receiver<Arc<crate::catalog::Catalog>>,
    /// What sessions read into.
    pub buffers: Arc<BufferPool>,
    /// Turns true when the daemon drains.
    pub shutdown: watch::Receiver<bool>,
}

impl Context {
    /// What is in force now.
    fn policy(&self) -> Arc<SessionPolicy> {
        Arc::clone(&self.policy.borrow())
    }
}
