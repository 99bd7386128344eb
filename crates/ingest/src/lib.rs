//! The source side: a listener, and one session per connection. Sessions follow protocol v1 exactly.
//!
//! Modules, in the order in which a connection meets them:
//!
//! * [`connection::listener`]: accepts, and hands sockets to the router,
//! * [`connection::entrance`]: holds a connection until the client has sent a valid HELLO,
//! * [`router`]: the actor that owns every session, knows every source, enforces the limits and decides which
//!   session speaks for a stream,
//! * `session`: HELLO to BYE on one connection,
//! * [`stream`]: what outlives a connection: epoch, positions, queue, and which session speaks for the
//!   stream,
//! * `link_stream`: a stream that a link carries instead of a session,
//! * `opened`: the right of one connection to speak for a stream,
//! * `acks`: when a session learns that routine frames are durable,
//! * [`pipeline`]: the queues of all streams, emergencies first, and the processor,
//! * `sequences`: counts the sequences of a stream that have not come,
//! * [`books`]: received = archived + not stored + duplicates + rejected + in flight.
//!
//! A session never waits for the pipeline: it always reads a client that keeps to its credit. The stream
//! signals to the session that frames left the queue (credit) or reached the disk (ACK).
//!
//! This crate never depends on the configuration, on `feed`, or on what shows it. [`pipeline`] knows neither sessions nor
//! the archive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use connection::{CONNECTION_BYTES, Credentials, Entrance};
use frame::{BufferPool, Lanes, weight_max};

mod acks;
pub mod books;
pub mod flow;
mod link_stream;
mod opened;
pub mod pipeline;
pub mod router;
mod sequences;
mod session;
mod slots;
pub mod stream;
mod stream_edits;

pub use books::{Books, LaneCount, Totals};
pub use flow::{LaneTimes, Position, StreamId, StreamState, StreamView};
pub use link_stream::{Carrier, LinkStream, NotOwner};
pub use router::{Router, RouterError, SourceInfo, SourceList};
pub use stream::EARLIER_MAX;
pub use stream::{FORGET_MAX, ForgetRefused, Forgetting, Selected, Selector, glob};
pub use stream::{ResetRefused, StreamLimits, StreamTable};
pub use stream_edits::{EditError, StreamEdits};

/// Memory of a known stream without a connection, in bytes: its names, positions, counters and empty queue, its
/// takeovers of the last minute, and its entries in the tables of sessions and of the archive.
pub const STREAM_BYTES: u64 = 2 << 10;

/// Limits and defaults of the source side.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// At most this many connections with a valid HELLO. One more gets `busy`, unless it takes a stream over.
    pub max_connections: usize,
    /// At most this many connections with a valid HELLO per address. One more gets `busy`.
    pub max_connections_per_address: usize,
    /// Longest time from connecting to a complete HELLO; then `idle`.
    pub hello_timeout: Duration,
    /// Heartbeat of clients that ask for none; whole seconds, 1 to 300.
    pub heartbeat: Duration,
    /// Longest body in bytes after WELCOME.
    pub message_bytes_max: usize,
    /// Cost that may wait per stream. A value below the cost of one maximal message is raised to this cost.
    pub windows: Lanes<u64>,
    /// At most this many streams whose position is kept. One more new stream gets `limit`.
    pub max_streams: usize,
    /// At most this many streams per source id. One more new stream gets `limit`.
    pub max_streams_per_source: usize,
    /// At most this many streams whose position is kept and whose source the peer of a link has chosen. The position of
    /// one more is not kept.
    pub max_invented_streams: usize,
    /// In a drain, sessions stop reading after this long.
    pub drain_read_max: Duration,
    /// How often per minute a stream may change its connection while one is open. One more takeover gets
    /// `busy`.
    pub max_takeovers_per_minute: usize,
}

impl IngestConfig {
    /// How many streams there may be.
    #[must_use]
    pub const fn stream_limits(&self) -> StreamLimits {
        StreamLimits {
            total: self.max_streams,
            per_source: self.max_streams_per_source,
            invented: self.max_invented_streams,
        }
    }

    /// The windows in force: at least the cost of one maximal message.
    #[must_use]
    pub fn windows(&self) -> Lanes<u64> {
        self.windows.map(|window| window.max(self.message_bytes_max as u64))
    }

    /// Upper bound of the memory of one connection, in bytes: the frames that fill both windows, the read
    /// buffer and [`CONNECTION_BYTES`].
    #[must_use]
    pub fn connection_bytes(&self) -> u64 {
        let Lanes { emergency, routine } = self.windows().map(weight_max);
        emergency
            .saturating_add(routine)
            .saturating_add(self.read_buffer_bytes())
            .saturating_add(CONNECTION_BYTES)
    }

    /// Upper bound of the memory for the first part of an incomplete message, in bytes.
    fn read_buffer_bytes(&self) -> u64 {
        if self.message_bytes_max <= READ_BUFFER_BYTES_MIN {
            READ_BUFFER_BYTES_MIN as u64
        } else {
            self.message_bytes_max.max(session::input::READ_BYTES) as u64
        }
    }
}

/// Room for the first part of an incomplete message, in bytes, however short the messages are. A longer first
/// part stays in the buffer into which it was read.
const READ_BUFFER_BYTES_MIN: usize = 16 << 10;
const _: () = assert!(READ_BUFFER_BYTES_MIN <= session::input::MOVED_BYTES_MAX);

/// Most free buffers that the pool keeps.
pub const FREE_BUFFERS_MAX: usize = 64;
/// Upper bound of one free buffer, in bytes. It includes the metas of the smallest frames in each lane, in
/// lists that double.
pub const BUFFER_BYTES_MAX: usize = session::input::READ_BYTES * (1 + 2 * 2);

/// Creates the pool of buffers that sessions read into.
#[must_use]
pub fn buffers() -> Arc<BufferPool> {
    BufferPool::new(session::input::READ_BYTES, FREE_BUFFERS_MAX)
}

/// The limits and credentials that are in force for new connections.
#[derive(Debug)]
pub struct SessionPolicy {
    /// Limits and defaults. A connection keeps those that were in force when it came.
    pub config: Arc<IngestConfig>,
    /// Which client may speak for which source. The handshake checks this once, when HELLO has come.
    pub credentials: Credentials,
    /// TLS of new connections, if they are encrypted.
    pub tls: Option<tls::Server>,
}

impl SessionPolicy {
    /// A policy of these parts.
    #[must_use]
    pub fn new(config: IngestConfig, credentials: Credentials, tls: Option<tls::Server>) -> Arc<Self> {
        Arc::new(Self { config: Arc::new(config), credentials, tls })
    }
}

/// The state that all sessions share.
pub struct Context {
    /// Holds connections before they are let in.
    pub entrance: Arc<Entrance>,
    /// The policy in force. Reading it takes a lock: sessions read it once per connection, never per frame.
    pub policy: watch::Receiver<Arc<SessionPolicy>>,
    /// The archive, which knows where a stream stood in an epoch that is over. Without it, every such epoch is fenced.
    pub history: Option<archive::History>,
    /// The catalog. Sessions that want it get it at once and at each change.
    pub catalog: tokio::sync::watch::Receiver<Arc<catalog::Catalog>>,
    /// The pool of buffers that sessions read into.
    pub buffers: Arc<BufferPool>,
    /// Turns true when the daemon drains.
    pub shutdown: watch::Receiver<bool>,
}

impl Context {
    /// The policy in force.
    fn policy(&self) -> Arc<SessionPolicy> {
        Arc::clone(&self.policy.borrow())
    }
}
