//! The books of one lane: what may be sent, what was sent, and what the server may still lose.

use std::collections::VecDeque;

use super::SourceError;
use frame::FramePriority;
use wire::Ack;

/// A frame that is kept until the server calls it durable.
pub trait Kept {
    /// The sequence of the frame.
    fn sequence(&self) -> u64;
}

/// The books of one lane; see the module. They live through all connections of one epoch.
#[derive(Debug)]
pub struct Lane<K> {
    /// One past the highest sequence ever written.
    sent_next: u64,
    /// Highest position the server called durable.
    durable_next: u64,
    /// The resume position at the start of this connection.
    resume_next: u64,
    /// The kept frames, ascending by sequence.
    kept: VecDeque<K>,
    /// How many frames at the front of `kept` need no write on this connection.
    kept_written: usize,
    /// Cost written on this connection, and its bound.
    cost_sent: u64,
    credit_limit: u64,
    /// Duplicates as last reported on this connection.
    duplicates: u32,
}

impl<K> Default for Lane<K> {
    fn default() -> Self {
        Self {
            sent_next: 0,
            durable_next: 0,
            resume_next: 0,
            kept: VecDeque::new(),
            kept_written: 0,
            cost_sent: 0,
            credit_limit: 0,
            duplicates: 0,
        }
    }
}

impl<K: Kept> Lane<K> {
    /// Starts a new connection, which need not write the frames below `resume_next`. Returns the number of
    /// kept frames that the server knows although they were never sent to it.
    pub fn open(&mut self, resume_next: u64) -> u64 {
        let known = self.count_below(self.known_next());
        self.kept_written = self.count_below(resume_next);
        self.resume_next = resume_next;
        (self.cost_sent, self.credit_limit, self.duplicates) = (0, 0, 0);
        self.kept_written.saturating_sub(known) as u64
    }

    fn count_below(&self, sequence: u64) -> usize {
        self.kept.partition_point(|kept| kept.sequence() < sequence)
    }

    /// One past the highest sequence ever written.
    pub fn sent_next(&self) -> u64 {
        self.sent_next
    }

    /// Highest position the server called durable.
    pub fn durable_next(&self) -> u64 {
        self.durable_next
    }

    /// One past the highest sequence that the server has or was sent. No lower sequence is new to the server.
    pub fn known_next(&self) -> u64 {
        self.sent_next.max(self.resume_next)
    }

    /// Number of kept frames, written or not.
    pub fn kept_frames(&self) -> usize {
        self.kept.len()
    }

    /// Whether no kept frame waits to be written on this connection.
    pub fn is_written(&self) -> bool {
        self.kept_written == self.kept.len()
    }

    /// The kept frame to write next on this connection.
    pub fn next(&self) -> Option<&K> {
        self.kept.get(self.kept_written)
    }

    /// Whether the credit allows a frame of `cost`.
    pub fn has_credit(&self, cost: u64) -> bool {
        self.cost_sent + cost <= self.credit_limit
    }

    /// Keeps `kept`, whose sequence is above all earlier ones, to be written in its turn. Returns whether the
    /// server knows the frame already, so that no write is needed.
    pub fn keep(&mut self, kept: K) -> bool {
        let is_known = self.is_written() && kept.sequence() < self.resume_next;
        self.kept_written += usize::from(is_known);
        self.kept.push_back(kept);
        is_known
    }

    /// Notes that a frame of `cost` and `sequence` is written, kept or not.
    pub fn write(&mut self, sequence: u64, cost: u64) {
        self.cost_sent += cost;
        self.sent_next = self.sent_next.max(sequence + 1);
        if self.next().is_some_and(|kept| kept.sequence() == sequence) {
            self.kept_written += 1;
        }
    }

    /// Takes the credit and duplicates of `ack`. Returns the number of duplicates that were not reported
    /// before.
    pub fn credit(&mut self, ack: &Ack) -> u32 {
        self.credit_limit = self.credit_limit.max(ack.credit_limit);
        let duplicates = ack.duplicates.saturating_sub(self.duplicates);
        self.duplicates += duplicates;
        duplicates
    }

    /// Removes the kept frames below `durable_next` and hands them to `settled`, oldest first.
    ///
    /// # Errors
    /// When `durable_next` covers frames that the server cannot have.
    pub fn settle(
        &mut self,
        priority: FramePriority,
        durable_next: u64,
        settled: impl FnMut(K),
    ) -> Result<(), SourceError> {
        let known_next = self.known_next();
        if durable_next > known_next {
            return Err(SourceError::AckedUnsent { lane: priority, durable_next, sent_next: known_next });
        }
        self.durable_next = self.durable_next.max(durable_next);
        let covered = self.count_below(durable_next);
        self.kept.drain(..covered).for_each(settled);
        self.kept_written = self.kept_written.saturating_sub(covered);
        Ok(())
    }

    /// Removes the kept frames that were never sent to the server, and hands them to `dropped`.
    pub fn drop_unsent(&mut self, dropped: impl FnMut(K)) {
        let known = self.count_below(self.known_next());
        self.kept.drain(known..).for_each(dropped);
        self.kept_written = self.kept_written.min(known);
    }

    /// Removes all kept frames, and hands them to `dropped`.
    pub fn drain(&mut self, dropped: impl FnMut(K)) {
        self.kept.drain(..).for_each(dropped);
        self.kept_written = 0;
    }
}
