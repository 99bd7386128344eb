//! The source side: a listener, and a session per connection that speaks protocol v1 to the letter.
//!
//! In the order a connection takes:
//!
//! * [`crate::connection::listener`]: accepts, and hands sockets to the registry,
//! * [`registry`]: the actor that owns every session, keeps the limits and decides who speaks for a stream,
//! * `session`: HELLO to BYE on one connection,
//! * [`stream`]: what outlives a connection: epoch, positions, queue, and whose turn it is to speak,
//! * [`books`]: received = archived + duplicates + rejected + in flight.
//!
//! A session never waits for the pipeline: a client that keeps to its credit is always read. It learns through
//! its stream that frames left the queue (credit) or reached the disk (ACK).

use std::sync::Arc;
use std::time::Duration;

use crate::frame::BufferPool;

pub mod books;
pub mod flow;
pub mod registry;
mod session;
pub mod stream;

pub use books::{Books, Totals};
pub use flow::{LaneCount, LaneTimes, StreamView};
pub use registry::{Registry, RegistryError};
pub use stream::{Position, StreamTable};

/// Limits and defaults of the source side.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Connections at a time; one more gets `busy`.
    pub max_connections: usize,
    /// Connections at a time from one address; one more gets `busy`.
    pub max_connections_per_address: usize,
    /// From connecting to a complete HELLO, else `idle`.
    pub hello_timeout: Duration,
    /// For clients that ask for none; whole seconds, 1 to 300.
    pub heartbeat: Duration,
    /// Longest body in bytes after WELCOME.
    pub message_bytes_max: usize,
    /// Cost that may wait per stream, `[emergency, routine]`; raised to one maximal message.
    pub windows: [u64; 2],
    /// Streams whose position is kept; a new one beyond gets `limit`.
    pub max_streams: usize,
    /// In a drain nothing is read after this long.
    pub drain_read_max: Duration,
    /// How often per minute a stream may change its connection while one is open; then `busy`.
    pub max_takeovers_per_minute: usize,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            max_connections: 256,
            max_connections_per_address: 128,
            hello_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(15),
            message_bytes_max: 128 << 10,
            windows: [256 << 10, 1 << 20],
            max_streams: 4096,
            drain_read_max: Duration::from_secs(2),
            max_takeovers_per_minute: 30,
        }
    }
}

impl IngestConfig {
    /// The windows in force: never smaller than one maximal message.
    #[must_use]
    pub fn windows(&self) -> [u64; 2] {
        self.windows.map(|window| window.max(self.message_bytes_max as u64))
    }
}

/// Buffers that wait to be read into, at most.
pub const FREE_BUFFERS_MAX: usize = 64;
/// What each of them takes at most, in bytes, with what was noted of the smallest frames in each lane, in lists that double.
pub const BUFFER_BYTES_MAX: usize = session::input::READ_BYTES * (1 + 2 * 2);

/// A pool of the buffers that sessions read into.
#[must_use]
pub fn buffers() -> Arc<BufferPool> {
    BufferPool::new(session::input::READ_BYTES, FREE_BUFFERS_MAX)
}

/// What every session shares.
#[derive(Debug)]
pub struct Context {
    /// Limits and defaults.
    pub config: IngestConfig,
    /// Who may speak for which source.
    pub credentials: crate::connection::Credentials,
    /// Where sources are registered.
    pub router: crate::pipeline::Router,
    /// The books of all streams together.
    pub books: Arc<Books>,
    /// What sessions read into.
    pub buffers: Arc<BufferPool>,
    /// Turns true when the daemon drains.
    pub shutdown: tokio::sync::watch::Receiver<bool>,
}

impl Context {
    /// Notes for the log that `peer` got ERROR. What peers do wrong is theirs, not an error of the daemon.
    fn refused(&self, peer: std::net::SocketAddr, error: &crate::wire::WireError) {
        tracing::info!(%peer, code = error.code.name(), detail = error.detail, "{}", error.text);
    }
}
