//! Keeps the torn tails that recovery cuts off, in `lost/`.

use std::ops::Range;
use std::path::Path;

use crate::read::scan::Scanner;
use crate::storage::dir::Dir;
use crate::storage::{Access, Context, StorageError, write_all_at};

/// Largest number of torn tails kept. The oldest are removed first. No frame in a torn tail was ever acknowledged.
const LOST_FILES_MAX: usize = 64;
/// Largest number of bytes kept of one torn tail.
const LOST_BYTES_MAX: u64 = 16 << 20;

impl Dir {
    /// Copies the torn `bytes` of the segment `base` to `lost/` and makes them durable.
    ///
    /// The bytes were never acknowledged. If the disk is full, they are discarded with a log line, and recovery goes
    /// on.
    pub(crate) fn keep_lost(
        &self,
        base: u64,
        scanner: &Scanner,
        bytes: Range<u64>,
    ) -> Result<(), StorageError> {
        match self.copy_lost(base, scanner, bytes) {
            Err(error) if error.is_no_space() => {
                tracing::warn!(%error, "no space to keep the bytes of a torn tail; they are discarded");
                Ok(())
            }
            result => result,
        }
    }

    fn copy_lost(&self, base: u64, scanner: &Scanner, bytes: Range<u64>) -> Result<(), StorageError> {
        let lost = self.lost();
        self.storage.create_dir(&lost).context("create", &lost)?;
        self.trim_lost(&lost)?;
        let path = lost.join(format!("{base:020}-{:012}.torn", bytes.start));
        let end = bytes.end.min(bytes.start + LOST_BYTES_MAX);
        let content = scanner.raw(bytes.start..end)?;
        if let Err(error) = self.write_lost(&path, &content) {
            // A partial copy would take space that the log needs.
            self.remove(&path)?;
            return Err(error);
        }
        self.storage.sync_dir(&lost).context("sync", &lost)
    }

    fn write_lost(&self, path: &Path, content: &[u8]) -> Result<(), StorageError> {
        let file = self.open(path, Access::Create)?;
        write_all_at(&*file, content, 0).context("write", path)?;
        file.sync_data().context("sync", path)
    }

    fn trim_lost(&self, lost: &Path) -> Result<(), StorageError> {
        let mut names = self.storage.list(lost).context("list", lost)?;
        names.retain(|name| name.ends_with(".torn"));
        names.sort_unstable();
        let excess = (names.len() + 1).saturating_sub(LOST_FILES_MAX);
        names[..excess].iter().try_for_each(|name| self.remove(&lost.join(name)))
    }
}
