//! The script of a simulated source: sends its resend buffer, by its schedule, until its feed is over.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::Shared;
use super::catalogs::Assembly;
use super::pace::{Feed, Schedule};
use super::resend_buffer::{Due, Mode, ResendBuffer, Settled};
use client::{Script, SourceError};
use frame::FramePriority;
use wire::{Ack, Bye, CatalogPart, Welcome};

/// The script of one source; see the module. It lives through all connections of a source.
pub(super) struct SourceScript {
    pub(super) shared: Arc<Shared>,
    pub(super) resend: ResendBuffer,
    pub(super) schedule: Schedule,
    pub(super) feed: Feed,
    /// Distinct frames that were written.
    pub(super) sent: u64,
    /// The parts of the catalog on the current connection.
    pub(super) catalog: Assembly,
    /// Unix time of the start of the run; `None` means that the reception time of the frames is unknown.
    pub(super) ert_base_ns: Option<i64>,
}

impl SourceScript {
    /// Frames that were due when the feed ended. Flat out and without a number of frames, this is one more
    /// than were sent.
    pub(super) fn due(&self) -> u64 {
        let limit = self.shared.plan.frames_per_source();
        match self.feed.over_since().map(|at| self.schedule.due(at)) {
            Some(Due::Below(due)) => due.min(limit),
            Some(Due::FlatOut) => self.sent.saturating_add(1).max(if limit == u64::MAX { 0 } else { limit }),
            Some(Due::Nothing) | None => 0,
        }
    }

    /// Counts the frames that `settle` settles, and records their latencies.
    fn settle(
        &mut self,
        priority: FramePriority,
        now: Instant,
        settle: impl FnOnce(&mut ResendBuffer, &mut dyn FnMut(u64, u64)) -> Result<Settled, SourceError>,
    ) -> Result<bool, SourceError> {
        let now_ns = self.shared.since_start_ns(now);
        let settled = self.shared.latency.record(priority, |record| {
            settle(&mut self.resend, &mut |first_written_ns, count| {
                record(Duration::from_nanos(now_ns.saturating_sub(first_written_ns)), count);
            })
        })?;
        self.shared.progress.add_settled(settled);
        Ok(settled.frames > 0)
    }
}

impl Script for SourceScript {
    fn welcome(&mut self, welcome: &Welcome) -> Result<(), SourceError> {
        self.catalog = Assembly::default();
        self.resend.open(welcome.resume_next, welcome.max_message_bytes)
    }

    fn fill(&mut self, out: &mut BytesMut, now: Instant) -> Result<(), SourceError> {
        let due = if self.feed.is_over() { Due::Nothing } else { self.schedule.due(now) };
        let filled = self.resend.fill(out, due, self.shared.since_start_ns(now), self.ert_base_ns);
        self.sent += filled.sent;
        self.shared.progress.add_filled(filled);
        if self.resend.is_exhausted() {
            self.feed.end(now);
        }
        Ok(())
    }

    fn bye(&self) -> Option<Bye> {
        let is_over = self.feed.is_over() && self.resend.is_written();
        is_over.then(|| Bye { next: self.resend.sent_next() })
    }

    fn acknowledge(&mut self, ack: &Ack, now: Instant) -> Result<bool, SourceError> {
        let mut duplicates = 0;
        let progress = self.settle(ack.priority, now, |resend, record| {
            let (settled, reported) = resend.acknowledge(ack, record)?;
            duplicates = reported;
            Ok(settled)
        })?;
        self.shared.progress.add_duplicates(duplicates);
        Ok(progress)
    }

    fn finish(&mut self, bye: Bye, now: Instant) -> Result<bool, SourceError> {
        let mut progress = false;
        for (priority, durable_next) in bye.next {
            progress |=
                self.settle(priority, now, |resend, record| resend.finish(priority, durable_next, record))?;
        }
        Ok(progress)
    }

    fn catalog(&mut self, part: &CatalogPart) {
        if let Some(complete) = self.catalog.take(part, self.shared.plan.catalog) {
            self.shared.progress.add_catalog(complete);
        }
    }

    fn is_settled(&self) -> bool {
        self.resend.unacked() == 0 || self.resend.mode() == Mode::Unacked
    }

    fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.feed.is_over() { None } else { self.schedule.next(now) }
    }

    fn gives_up_at(&self) -> Option<Instant> {
        self.feed.gives_up_at()
    }

    async fn changed(&mut self) {
        if self.feed.is_over() {
            std::future::pending::<()>().await;
        }
        self.feed.over().await;
    }
}

#[cfg(test)]
mod tests;
