//! The open connections of all sources of a run.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counts the open connections of a run, and keeps the newest reason why a source has none.
#[derive(Debug, Default)]
pub struct Connections {
    count: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// Counts as one connection past WELCOME while it lives.
#[derive(Debug)]
pub struct Connected<'a>(&'a Connections);

impl Connections {
    /// Number of connections past WELCOME.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Counts a connection while the result lives.
    #[must_use]
    pub fn add(&self) -> Connected<'_> {
        self.count.fetch_add(1, Relaxed);
        Connected(self)
    }

    /// Why a source last lost its connection or got none.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps `trouble` as the newest reason.
    pub fn set_trouble(&self, trouble: &str) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.to_owned());
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Relaxed);
    }
}
