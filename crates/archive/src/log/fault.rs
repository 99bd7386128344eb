//! A failure that maintenance found and that ends the archive.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, PoisonError};

use crate::storage::StorageError;

/// The first failure that was reported. The commit thread checks it before it acknowledges a commit.
#[derive(Default)]
pub(crate) struct Fault {
    /// Whether a failure was reported. The check of each commit then takes no lock.
    is_set: AtomicBool,
    /// The failure, until [`Self::check`] takes it.
    error: Mutex<Option<StorageError>>,
}

impl Fault {
    /// Reports a failure. Only the first one counts.
    pub(crate) fn set(&self, error: StorageError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.is_set.store(true, Release);
    }

    /// Returns the failure as an error, if there was one. The first call takes it: the commit thread ends with it and
    /// does not ask again.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        if !self.is_set.load(Acquire) {
            return Ok(());
        }
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.map_or(Ok(()), Err)
    }
}
