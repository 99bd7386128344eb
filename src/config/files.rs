//! The open files the limits need, and the limit of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Config;

/// Open files that do not grow with the limits: standard streams, the runtime, listeners, signals, the
/// archive's lock, directory and open segments, token files while they are read, HTTP requests, and room
/// for connections that are only told `busy`.
pub const FILES_FIXED: u64 = 256;

/// Why the limits need more files than this process may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenFilesError {
    /// Only the administrator can allow more.
    #[error(
        "{needed} open files are needed and {hard} allowed: raise the limit (LimitNOFILE={needed} in \
         the systemd unit, ulimit -Hn {needed} in a shell, --ulimit nofile={needed} for a container) \
         or lower ingest.max_connections or feed.max_subscribers"
    )]
    HardLimit {
        /// What the limits need.
        needed: u64,
        /// What this process may have.
        hard: u64,
    },
    /// The system refused what it should allow.
    #[error(
        "cannot raise the limit of open files from {soft} to {needed}: {source}; ulimit -n {needed} may help"
    )]
    Refused {
        /// What the limits need.
        needed: u64,
        /// What this process has.
        soft: u64,
        /// The system's answer.
        source: rustix::io::Errno,
    },
}

impl Config {
    /// Files the daemon may have open at a time: one per connection, two per subscriber (its socket
    /// and the segment it is served from when it is behind), and [`FILES_FIXED`].
    #[must_use]
    pub fn open_files_needed(&self) -> u64 {
        let connections = self.ingest.max_connections.get() as u64;
        let subscribers = self.feed.max_subscribers.get() as u64;
        connections + 2 * subscribers + FILES_FIXED
    }
}

/// Raises this process' soft limit of open files to `needed`, unless it is there already.
///
/// # Errors
/// [`OpenFilesError`] with what is there, what is needed and how to raise it.
pub fn raise_open_file_limit(needed: u64) -> Result<(), OpenFilesError> {
    let limit = getrlimit(Resource::Nofile);
    let Some(raised) = raise(limit, needed)? else {
        return Ok(());
    };
    let soft = limit.current.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, raised).map_err(|source| OpenFilesError::Refused { needed, soft, source })
}

/// The limit to set, `None` if `limit` suffices. An absent limit is none at all.
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
    fn beyond_the_hard_limit_the_way_out_is_named() {
        let error = raise(limit(Some(1024), Some(4096)), 4097).unwrap_err();
        let hard = 4096;
        assert_eq!(error, OpenFilesError::HardLimit { needed: 4097, hard });
        let text = error.to_string();
        for part in ["4097 open", "4096 allowed", "LimitNOFILE=4097", "ulimit -Hn"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn this_process_gets_what_it_may_have() {
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
        assert!(before <= 1024, "the usual soft limit suffices: {before}");
        config.ingest.max_connections = config.ingest.max_connections.saturating_add(5);
        config.feed.max_subscribers = config.feed.max_subscribers.saturating_add(3);
        assert_eq!(config.open_files_needed(), before + 5 + 2 * 3);
    }
}
