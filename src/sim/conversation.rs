//! One connection after WELCOME, as decisions without I/O: what to write, what a message means, when to wake.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::Shared;
use super::error::{SourceError, code_name};
use super::ledger::{Due, Ledger, Mode};
use super::pace::Schedule;
use crate::frame::{FramePriority, SourceKind};
use crate::wire::{Ack, Bye, ClientMessage, ErrorMessage, ServerMessage, Welcome, WireError};

/// How much longer than announced a draining server may take before the connection is given up.
const GOAWAY_GRACE: Duration = Duration::from_secs(1);
/// Heartbeats of silence after which the server is taken for dead.
const SILENT_HEARTBEATS_MAX: u32 = 3;

/// How a connection ended, if not by an error that ends the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides said BYE and nothing is missing.
    Complete,
    /// Worth another connection, not before `retry_after`.
    Lost {
        /// For people.
        trouble: String,
        /// What the server asked for.
        retry_after: Duration,
    },
}

impl End {
    pub(super) fn lost(trouble: impl Into<String>) -> Self {
        Self::Lost { trouble: trouble.into(), retry_after: Duration::ZERO }
    }

    /// The server said ERROR.
    ///
    /// # Errors
    /// It is not retryable.
    pub(super) fn refused(error: ErrorMessage) -> Result<Self, SourceError> {
        if !error.retryable {
            return Err(SourceError::Refused { code: error.code, text: error.text });
        }
        Ok(Self::Lost {
            trouble: format!("{}: {}", code_name(error.code), error.text),
            retry_after: error.retry_after,
        })
    }
}

/// See the module.
pub(super) struct Conversation<'a> {
    shared: &'a Shared,
    ledger: &'a mut Ledger,
    schedule: Schedule,
    ert_base_ns: Option<i64>,
    silence: Silence,
    max_message_bytes: u32,
    pong: Option<u64>,
    said_bye: bool,
    drained_at: Option<Instant>,
    made_progress: bool,
}

impl<'a> Conversation<'a> {
    /// Begins after `welcome`.
    ///
    /// # Errors
    /// [`Ledger::open`].
    pub(super) fn new(
        shared: &'a Shared,
        ledger: &'a mut Ledger,
        schedule: Schedule,
        source_kind: SourceKind,
        welcome: &Welcome,
        now: Instant,
    ) -> Result<Self, SourceError> {
        ledger.open(welcome.resume_next, welcome.max_message_bytes)?;
        let heartbeat = Duration::from_secs(u64::from(welcome.heartbeat_s.max(1)));
        Ok(Self {
            shared,
            ledger,
            schedule,
            ert_base_ns: (source_kind == SourceKind::LiveUplink).then_some(shared.started_unix_ns),
            silence: Silence::new(heartbeat, now),
            max_message_bytes: welcome.max_message_bytes,
            pong: None,
            said_bye: false,
            drained_at: None,
            made_progress: false,
        })
    }

    /// Longest body the server may send.
    pub(super) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes as usize
    }

    /// Whether frames became durable on this connection.
    pub(super) fn made_progress(&self) -> bool {
        self.made_progress
    }

    /// Whether every frame of the feed has come into being.
    pub(super) fn is_exhausted(&self) -> bool {
        self.ledger.is_exhausted()
    }

    /// Puts the next write into the empty `out`: answers, then frames, then BYE when the feed is over.
    pub(super) fn fill(&mut self, out: &mut BytesMut, feed_is_over: bool, now: Instant) {
        if let Some(nonce) = self.pong.take() {
            ClientMessage::Pong(nonce).encode(out);
        }
        if !self.said_bye && self.drained_at.is_none() {
            let due = if feed_is_over { Due::Nothing } else { self.schedule.due(now) };
            let filled = self.ledger.fill(out, due, self.shared.since_start_ns(now), self.ert_base_ns);
            self.shared.progress.add_filled(filled);
        }
        if feed_is_over && !self.said_bye && self.ledger.is_written() {
            Bye { next: self.ledger.sent_next() }.encode(out);
            self.said_bye = true;
        }
        if !out.is_empty() {
            self.silence.write_began(now);
        }
    }

    /// The socket took bytes; `out_is_empty` tells whether it took all.
    pub(super) fn wrote(&mut self, out_is_empty: bool, now: Instant) {
        self.silence.write_moved(out_is_empty, now);
    }

    /// Bytes came in.
    pub(super) fn heard(&mut self, now: Instant) {
        self.silence.heard(now);
    }

    /// Takes in one message; `Some` ends the connection.
    ///
    /// # Errors
    /// What ends the source.
    pub(super) fn receive(
        &mut self,
        message: ServerMessage,
        now: Instant,
    ) -> Result<Option<End>, SourceError> {
        match message {
            ServerMessage::Ack(ack) => self.acknowledge(&ack, now)?,
            ServerMessage::Ping(nonce) => self.pong = Some(nonce),
            ServerMessage::Bye(bye) => return self.finish(bye, now).map(Some),
            ServerMessage::GoAway(goaway) => self.drained_at = Some(now + goaway.deadline + GOAWAY_GRACE),
            ServerMessage::Error(error) => return End::refused(error).map(Some),
            ServerMessage::Welcome(_) => {
                return Err(WireError::protocol("a second WELCOME").into());
            }
            ServerMessage::Pong(_) | ServerMessage::Catalog(_) | ServerMessage::Ignored(_) => {}
        }
        Ok(None)
    }

    fn acknowledge(&mut self, ack: &Ack, now: Instant) -> Result<(), SourceError> {
        let now_ns = self.shared.since_start_ns(now);
        let (settled, duplicates) = self.shared.latency.record(ack.priority, |record| {
            self.ledger.acknowledge(ack, |first_written_ns, count| {
                record(Duration::from_nanos(now_ns.saturating_sub(first_written_ns)), count);
            })
        })?;
        self.made_progress |= settled.frames > 0;
        self.shared.progress.add_settled(settled);
        self.shared.progress.add_duplicates(duplicates);
        Ok(())
    }

    fn finish(&mut self, bye: Bye, now: Instant) -> Result<End, SourceError> {
        let now_ns = self.shared.since_start_ns(now);
        for priority in FramePriority::ALL {
            let settled = self.shared.latency.record(priority, |record| {
                self.ledger.finish(priority, bye.next[priority.lane()], |first_written_ns, count| {
                    record(Duration::from_nanos(now_ns.saturating_sub(first_written_ns)), count);
                })
            })?;
            self.made_progress |= settled.frames > 0;
            self.shared.progress.add_settled(settled);
        }
        let nothing_more_to_learn = self.ledger.unacked() == 0 || self.ledger.mode() == Mode::Unacked;
        if self.said_bye && nothing_more_to_learn {
            return Ok(End::Complete);
        }
        Ok(End::lost("the server said BYE before everything was durable"))
    }

    /// When [`Conversation::wake`] is due; `out_is_empty` tells whether no write is pending.
    pub(super) fn wake_at(&self, out_is_empty: bool, feed_is_over: bool, now: Instant) -> Option<Instant> {
        let may_send = out_is_empty && !feed_is_over && self.drained_at.is_none();
        let next_frame = may_send.then(|| self.schedule.next(now)).flatten();
        [next_frame, self.silence.due_at(), self.drained_at].into_iter().flatten().min()
    }

    /// Does what time asks for: a PING into `out`, or the end of a dead connection.
    pub(super) fn wake(&mut self, out: &mut BytesMut, now: Instant) -> Option<End> {
        if self.drained_at.is_some_and(|at| at <= now) {
            return Some(End::lost("the server did not finish draining in time"));
        }
        if self.silence.due_at().is_some_and(|at| at <= now) {
            if self.silence.is_last() {
                return Some(End::lost(format!(
                    "nothing heard for {:?}",
                    self.silence.heartbeat * SILENT_HEARTBEATS_MAX
                )));
            }
            self.silence.pings += 1;
            ClientMessage::Ping(u64::from(self.silence.pings)).encode(out);
            self.silence.write_began(now);
        }
        None
    }
}

/// How long nothing was heard; the clock stands still while a write is pending.
#[derive(Debug)]
struct Silence {
    heartbeat: Duration,
    heard_at: Instant,
    /// PINGs sent since then.
    pings: u32,
    writing_since: Option<Instant>,
}

impl Silence {
    fn new(heartbeat: Duration, now: Instant) -> Self {
        Self { heartbeat, heard_at: now, pings: 0, writing_since: None }
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pings = 0;
        if let Some(since) = &mut self.writing_since {
            *since = now;
        }
    }

    fn write_began(&mut self, now: Instant) {
        self.writing_since.get_or_insert(now);
    }

    fn write_moved(&mut self, done: bool, now: Instant) {
        if let Some(since) = self.writing_since.take() {
            self.heard_at += now.saturating_duration_since(since);
        }
        if !done {
            self.writing_since = Some(now);
        }
    }

    /// When the next heartbeat of silence is full; `None` while a write is pending.
    fn due_at(&self) -> Option<Instant> {
        self.writing_since.is_none().then(|| self.heard_at + self.heartbeat * (self.pings + 1))
    }

    /// Whether the next full heartbeat is one too many.
    fn is_last(&self) -> bool {
        self.pings + 1 >= SILENT_HEARTBEATS_MAX
    }
}

#[cfg(test)]
mod tests;
