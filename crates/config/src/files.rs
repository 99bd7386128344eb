//! The number of open files that the limits need, and the limit of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Config;
use super::fixed::{DISPLACED_AT_ONCE, HTTP_CONNECTIONS_MAX, HTTP_READERS};
use super::outputs::{Output, OutputTransport};
use connection::tcp::HANDSHAKES_MAX;
use connection::{PARTING_MAX, UNAUTHENTICATED_MAX};
use feed::READERS_MAX;

/// Connections of a listener before HELLO or SUBSCRIBE, one connection that waits to be among them, and refused
/// connections that are being closed.
const UNAUTHENTICATED: u64 = (UNAUTHENTICATED_MAX + 1 + PARTING_MAX) as u64;
/// Listeners for sources and for subscribers.
const LISTENERS: u64 = 2;
/// Connections of sources that were taken over and still have their socket. Connections that are being closed count as
/// refused.
const DISPLACED: u64 = DISPLACED_AT_ONCE as u64;
/// Files of one reader of the archive: the segment, its index, the next segment, and the directory while it is listed.
const READER_FILES: u64 = 4;
/// Maintenance: the segment, its index, the directory, and an export with a file for each column.
const MAINTENANCE_FILES: u64 = 32;
/// The archive's lock and directory, the segment being written, and the reserve. Both are open while the reserve
/// becomes the segment.
const ARCHIVE_FILES: u64 = 8;
/// A link: its listener, its connection, and the one that takes over.
const LINK_FILES: u64 = 3;
/// What a link with TLS has besides: connections in their handshake.
const LINK_HANDSHAKES: u64 = HANDSHAKES_MAX as u64;
/// An output besides its clients: its listener, a client that is refused, its cursor, and a reader of the archive.
const OUTPUT_FILES: u64 = 3 + READER_FILES;
/// Standard streams, the runtime's poll and wake-up, signals, three listeners, the service manager, the process
/// metrics, and the catalog and the configuration while they are read or written.
const PROCESS_FILES: u64 = 32;
/// The sockets of `run --simulate`.
const SIMULATED: u64 = 64;

/// Open files that do not grow with the limits.
pub const FILES_FIXED: u64 = LISTENERS * UNAUTHENTICATED
    + DISPLACED
    + HTTP_CONNECTIONS
    + (FEED_READERS + HTTP_READERS as u64) * READER_FILES
    + MAINTENANCE_FILES
    + ARCHIVE_FILES
    + PROCESS_FILES
    + SIMULATED;
/// Connections of HTTP, and one that is closed at once.
const HTTP_CONNECTIONS: u64 = HTTP_CONNECTIONS_MAX as u64 + 1;
/// At most this many subscribers read the archive at a time.
const FEED_READERS: u64 = READERS_MAX as u64;

/// Why the limits need more files than this process may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenFilesError {
    /// Only an administrator can raise the limit.
    #[error(
        "{needed} open files are needed and {hard} allowed: raise the limit (LimitNOFILE={needed} in \
         the systemd unit, ulimit -Hn {needed} in a shell, --ulimit nofile={needed} for a container) \
         or lower ingest.max_connections or feed.max_subscribers"
    )]
    HardLimit {
        /// The number of files that the limits need.
        needed: u64,
        /// The hard limit of this process.
        hard: u64,
    },
    /// The system refused a limit that it should allow.
    #[error(
        "cannot raise the limit of open files from {soft} to {needed}: {source}; ulimit -n {needed} may help"
    )]
    Refused {
        /// The number of files that the limits need.
        needed: u64,
        /// The soft limit of this process.
        soft: u64,
        /// The error of the system.
        source: rustix::io::Errno,
    },
}

impl Config {
    /// Upper bound of the open files of the daemon: one per connection, one per subscriber, those of links
    /// and outputs, and [`FILES_FIXED`].
    #[must_use]
    pub fn open_files_needed(&self) -> u64 {
        let connections = self.ingest.max_connections.get() as u64;
        let subscribers = self.feed.max_subscribers.get() as u64;
        let readers = |output: &Output| match &output.transport {
            OutputTransport::Aggregator(aggregator) => aggregator.connections as u64 + OUTPUT_FILES,
            _ => output.clients_max() as u64 + OUTPUT_FILES,
        };
        let outputs: u64 = self.outputs.iter().map(readers).sum();
        let encrypted = self.links.iter().filter(|link| link.tls).count() as u64;
        let links = self.links.len() as u64 * LINK_FILES + encrypted * LINK_HANDSHAKES;
        connections.saturating_add(subscribers).saturating_add(FILES_FIXED + links + outputs)
    }
}

/// Raises the soft limit of open files of this process to `needed`, if it is lower.
///
/// # Errors
/// [`OpenFilesError`] with the limit, the needed number and how to raise the limit.
pub fn raise_open_file_limit(needed: u64) -> Result<(), OpenFilesError> {
    let limit = getrlimit(Resource::Nofile);
    let Some(raised) = raise(limit, needed)? else {
        return Ok(());
    };
    let soft = limit.current.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, raised).map_err(|source| OpenFilesError::Refused { needed, soft, source })
}

/// The limit to set. `None` if `limit` suffices. An absent limit means unlimited.
fn raise(limit: Rlimit, needed: u64) -> Result<Option<Rlimit>, OpenFilesError> {
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(None);
    }
    match limit.maximum {
        Some(hard) if hard < needed => Err(OpenFilesError::HardLimit { needed, hard }),
        maximum => Ok(Some(Rlimit { current: Some(needed), maximum })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(current: Option<u64>, maximum: Option<u64>) -> Rlimit {
        Rlimit { current, maximum }
    }

    #[test]
    fn the_soft_limit_is_raised_as_far_as_needed() {
        assert_eq!(raise(limit(Some(1024), Some(4096)), 1024), Ok(None));
        assert_eq!(raise(limit(None, None), u64::MAX), Ok(None));
        assert_eq!(raise(limit(Some(1024), Some(4096)), 4096), Ok(Some(limit(Some(4096), Some(4096)))));
        assert_eq!(raise(limit(Some(1024), None), 4096), Ok(Some(limit(Some(4096), None))));
    }

    #[test]
    fn the_error_beyond_the_hard_limit_names_the_remedy() {
        let error = raise(limit(Some(1024), Some(4096)), 4097).unwrap_err();
        let hard = 4096;
        assert_eq!(error, OpenFilesError::HardLimit { needed: 4097, hard });
        let text = error.to_string();
        for part in ["4097 open", "4096 allowed", "LimitNOFILE=4097", "ulimit -Hn"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_limit_of_this_process_is_raised() {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let within = maximum.or(current).unwrap_or(1024).min(2048);
        raise_open_file_limit(within).unwrap();
        let soft = getrlimit(Resource::Nofile).current;
        assert!(soft.is_none_or(|soft| soft >= within), "{soft:?}");
    }

    #[test]
    fn connections_and_subscribers_are_counted() {
        let mut config = Config::default();
        let before = config.open_files_needed();
        assert!(before <= 4096, "the usual hard limit suffices: {before}");
        config.ingest.max_connections = config.ingest.max_connections.saturating_add(5);
        config.feed.max_subscribers = config.feed.max_subscribers.saturating_add(3);
        assert_eq!(config.open_files_needed(), before + 5 + 3);
    }
}
