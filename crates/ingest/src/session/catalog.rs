//! The catalog on one connection: which part of which version is sent next.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::watch;

use catalog::Catalog;
use wire::CatalogPart;

/// Most data bytes of a part. A part is sent between two ACKs, which wait for it. The connection holds the
/// part in memory while it is written.
const PART_BYTES_MAX: usize = 16 << 10;
/// Bytes of a CATALOG message besides the data.
const HEADER_BYTES: usize = 16;
/// Format of the data: TLE text.
const TLE_TEXT: u8 = 0;

/// The parts of the catalog that a session still owes its client.
///
/// The cursor holds neither a version nor parts of one. It reads the current version for each part. So a
/// client that does not read keeps no old version in memory, and gets the newest version as soon as it reads.
/// A part of a newer version may follow any part of an older version. The older version is then never
/// completed.
#[derive(Debug)]
pub(super) struct CatalogCursor {
    /// The current version.
    current: watch::Receiver<Arc<Catalog>>,
    /// Data bytes of each part but the last.
    part_bytes_max: usize,
    /// Version of the part that was sent last; 0 before the first.
    version: u64,
    /// Number of the next part of `version`.
    part_next: usize,
    /// Whether the client lacks parts of the newest version.
    is_due: bool,
}

impl CatalogCursor {
    /// Owes the current version and each later version, in messages of at most `message_bytes_max` bytes.
    pub(super) fn new(current: watch::Receiver<Arc<Catalog>>, message_bytes_max: usize) -> Self {
        let part_bytes_max = message_bytes_max.saturating_sub(HEADER_BYTES).clamp(1, PART_BYTES_MAX);
        Self { current, part_bytes_max, version: 0, part_next: 0, is_due: true }
    }

    /// Whether the client lacks parts of the newest version.
    pub(super) const fn is_due(&self) -> bool {
        self.is_due
    }

    /// Waits for a newer version. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.is_due = true;
    }

    /// Appends the next part of the newest version to `out`. Returns false when the client lacks none.
    pub(super) fn encode_next(&mut self, out: &mut BytesMut) -> bool {
        if !self.is_due {
            return false;
        }
        let catalog = Arc::clone(&self.current.borrow_and_update());
        if catalog.is_empty() {
            self.is_due = false;
            return false;
        }
        if catalog.version() != self.version {
            (self.version, self.part_next) = (catalog.version(), 0);
        }
        let text = catalog.text();
        let parts = text.len().div_ceil(self.part_bytes_max).max(1);
        let begin = self.part_next * self.part_bytes_max;
        let data = text.slice(begin..text.len().min(begin + self.part_bytes_max));
        // A text has at most 4 MiB, and a message has room for at least 4 KiB, so there are a few thousand
        // parts at most.
        let (part, count) = (self.part_next as u16, parts as u16);
        CatalogPart { format: TLE_TEXT, part, parts: count, version: self.version, data }.encode(out);
        self.part_next += 1;
        self.is_due = self.part_next < parts;
        true
    }
}

#[cfg(test)]
mod tests;
