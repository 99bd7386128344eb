//! The metrics of the uploads to object storage. Without `export.store` there are none.

use std::fmt;

use prometheus_client::registry::Unit;

use super::{Out, Scrape};

impl Scrape {
    pub(super) fn uploads(&self, out: &mut Out<'_>) -> fmt::Result {
        let Some(uploads) = &self.stats.uploads else { return Ok(()) };
        let bytes = Some(&Unit::Bytes);
        let pending = uploads.pending_segments;
        out.gauge("upload_pending_segments", "Exported segments not in the store", None, pending)?;
        out.gauge("upload_pending", "Files of these segments", bytes, uploads.pending_bytes)?;
        out.counter("upload_segments", "Segments uploaded", None, uploads.segments)?;
        out.counter("upload_sent", "Files uploaded", bytes, uploads.bytes)?;
        out.counter("upload_failures", "Tries that failed", None, uploads.failures)?;
        let is_in_trouble = uploads.trouble.is_some() as u64;
        out.gauge("upload_trouble", "1 while the last try has failed", None, is_in_trouble)
    }
}
