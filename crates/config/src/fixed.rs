//! Limits that no key changes. The sums of memory and of open files count them, and the parts that they bound use them.

/// Limit of HTTP connections, including event streams.
pub const HTTP_CONNECTIONS_MAX: usize = 512;

/// At most this many HTTP requests read the archive at a time.
pub const HTTP_READERS: usize = 2;

/// Connections that were taken over and still hold their buffers and sockets. Each frees them when its task runs.
pub(super) const DISPLACED_AT_ONCE: usize = 16;
