//! How blocks reach the disk: past the page cache, or through it.
//!
//! The log is written in order, and each block is synced at once. A write through the page cache copies every byte into
//! a page, and the sync searches for these pages. Both take time on the commit thread, for which all senders wait. A
//! direct write hands the block to the disk without a copy.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::storage::{Context, Storage, StorageError, is_not_direct};

/// Whether blocks are written past the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectIo {
    /// If the file system can do that, and is neither a network file system nor a process of its own (FUSE).
    #[default]
    Auto,
    /// Never.
    Off,
}

/// How the files of one log are written. Clones share the choice. The default is through the page cache.
#[derive(Clone, Default)]
pub(crate) struct WriteMode {
    /// Whether files are written past the page cache. Once false it stays false.
    is_direct: Arc<AtomicBool>,
}

impl WriteMode {
    /// Chooses direct writes if `wanted` allows them and the file system of `dir` is suitable.
    pub(crate) fn choose(wanted: DirectIo, storage: &dyn Storage, dir: &Path) -> Result<Self, StorageError> {
        if wanted == DirectIo::Off {
            return Ok(Self::default());
        }
        let cached = storage.cached_file_system(dir).context("look up the file system of", dir)?;
        if let Some(file_system) = cached {
            tracing::info!(
                dir = %dir.display(),
                file_system,
                "blocks are written through the page cache, because the archive is not on a disk of this host"
            );
        }
        Ok(Self { is_direct: Arc::new(AtomicBool::new(cached.is_none())) })
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.is_direct.load(Relaxed)
    }

    /// Switches to the page cache if `error` says that the file system has no direct writes. Returns `false` for any
    /// other error.
    pub(crate) fn falls_back(&self, path: &Path, error: &StorageError) -> bool {
        let falls_back = is_not_direct(&error.source);
        if falls_back && self.is_direct.swap(false, Relaxed) {
            tracing::info!(
                path = %path.display(),
                reason = %error.source,
                "blocks are written through the page cache, because this file cannot be written past it"
            );
        }
        falls_back
    }
}
