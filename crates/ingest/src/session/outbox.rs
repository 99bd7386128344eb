//! The messages to a client: the newest values, encoded only when there is room to write.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tls::Socket;
use tokio::time::Instant;

use super::catalog::CatalogCursor;
use super::intake::Intake;
use crate::acks::ACK_DELAY;
use frame::{FramePriority, Lanes};
use wire::{Ack, GoAway, ServerMessage, Welcome};

/// Longest time that more credit waits for an ACK that carries it, when no frames are on their way to the disk.
const CREDIT_DELAY: Duration = ACK_DELAY;
/// Longest time that more credit waits for the ACK of frames that are on their way to the disk. A commit may stall,
/// and the credit must not wait for its end.
const STALLED_CREDIT_DELAY: Duration = Duration::from_secs(1);

/// Messages to a client. Bounded: a newer ACK, PING or PONG replaces an older one of its kind that is not yet
/// encoded, and there is at most one part of the catalog.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Encoded messages that the socket has not taken.
    bytes: BytesMut,
    /// `bytes` hold a part of the catalog, which is large.
    has_part: bool,
    /// The heartbeat that WELCOME named.
    heartbeat: Duration,
    /// The last ACK of each lane. `None` before the first ACK.
    last_acks: Lanes<Option<AckValues>>,
    /// The nonce of the PING to answer.
    pong: Option<u64>,
    /// The nonce of a PING to send.
    ping: Option<u64>,
    /// The deadline of a GOAWAY to send.
    goaway: Option<Duration>,
    /// When an ACK is sent that has nothing new but more credit.
    credit_due: Option<Instant>,
    /// The ACK of routine is due ([`AckSignal::take_due`](crate::acks::AckSignal::take_due)).
    is_routine_due: bool,
}

/// What the last ACK of a lane said besides its credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AckValues {
    /// Every accepted frame below this sequence is on stable storage.
    durable_next: u64,
    /// Duplicates on this connection.
    duplicates: u32,
}

/// What the next ACK of a lane can say.
#[derive(Clone, Copy, Debug)]
struct NextAck {
    /// The newest values.
    values: AckValues,
    /// The highest limit that can be granted.
    credit_limit: u64,
    /// `values` differs from the last ACK.
    is_new: bool,
    /// `credit_limit` is higher than in the last ACK.
    has_grown: bool,
    /// The ACK must not wait.
    is_urgent: bool,
    /// The credit has grown and must be sent after [`CREDIT_DELAY`]: either no other ACK of this lane will follow
    /// soon and carry it, or the client is short of credit.
    is_credit_awaited: bool,
}

impl Outbox {
    /// Begins with WELCOME. The first [`Outbox::refresh`] adds the first ACKs.
    pub(super) fn new(welcome: Welcome) -> Self {
        let mut bytes = BytesMut::new();
        welcome.encode(&mut bytes);
        let heartbeat = Duration::from_secs(u64::from(welcome.heartbeat_s));
        Self {
            bytes,
            has_part: false,
            heartbeat,
            last_acks: Lanes::default(),
            pong: None,
            ping: None,
            goaway: None,
            credit_due: None,
            is_routine_due: false,
        }
    }

    /// The heartbeat that WELCOME named.
    pub(super) const fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    pub(super) fn pong(&mut self, nonce: u64) {
        self.pong = Some(nonce);
    }

    pub(super) fn ping(&mut self, nonce: u64) {
        self.ping = Some(nonce);
    }

    pub(super) fn goaway(&mut self, deadline: Duration) {
        self.goaway = Some(deadline);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// When the session must call [`Outbox::refresh`] to send credit, even if nothing else has changed. `None`
    /// while older bytes wait to be written.
    pub(super) fn credit_due(&self) -> Option<Instant> {
        self.credit_due.filter(|_| self.bytes.is_empty())
    }

    /// Marks the ACK of routine as due: the next [`Outbox::refresh`] sends it if it has anything new. Without this
    /// call it is sent only together with an urgent ACK or with more credit.
    pub(super) const fn set_routine_due(&mut self) {
        self.is_routine_due = true;
    }

    /// Encodes new values, unless older bytes wait to be written. `durable_next` is how far each lane of the stream is
    /// durable, and `queued` the part of its window that waiting frames use, as `SourceQueue::look` returns it.
    ///
    /// WELCOME and the first ACKs are the first messages on a connection, so the first ACKs do not wait until
    /// WELCOME is written. Returns true if an ACK of routine was encoded.
    pub(super) fn refresh(
        &mut self,
        durable_next: Lanes<u64>,
        queued: Lanes<u64>,
        intake: &mut Intake,
        now: Instant,
    ) -> bool {
        let may_encode = self.bytes.is_empty() || (self.last_acks == Lanes::default() && intake.wants_acks());
        may_encode && self.encode(durable_next, queued, intake, now)
    }

    /// Encodes the next part of the catalog, unless a part waits to be written. Call [`Outbox::refresh`]
    /// first, so that short messages go first.
    pub(super) fn append_catalog(&mut self, catalog: &mut CatalogCursor) {
        if !self.has_part {
            self.has_part = catalog.encode_next(&mut self.bytes);
        }
    }

    /// Ends the outbox. Returns the bytes that are not yet written and the last ACKs. The caller writes them
    /// before the last message of the connection. PING, PONG and GOAWAY are dropped, because they have no
    /// meaning when the connection ends.
    pub(super) fn finish(
        mut self,
        durable_next: Lanes<u64>,
        queued: Lanes<u64>,
        intake: &mut Intake,
        now: Instant,
    ) -> BytesMut {
        (self.pong, self.ping, self.goaway) = (None, None, None);
        (self.credit_due, self.is_routine_due) = (Some(now), true);
        self.encode(durable_next, queued, intake, now);
        self.bytes
    }

    /// Returns true if an ACK of routine was encoded.
    fn encode(
        &mut self,
        durable_next: Lanes<u64>,
        queued: Lanes<u64>,
        intake: &mut Intake,
        now: Instant,
    ) -> bool {
        let has_acked_routine = intake.wants_acks() && self.encode_acks(durable_next, queued, intake, now);
        if let Some(deadline) = self.goaway.take() {
            let text = "the daemon is shutting down: finish with BYE, or connect again later".to_owned();
            ServerMessage::GoAway(GoAway { deadline, text }).encode(&mut self.bytes);
        }
        if let Some(nonce) = self.pong.take() {
            ServerMessage::Pong(nonce).encode(&mut self.bytes);
        }
        if let Some(nonce) = self.ping.take() {
            ServerMessage::Ping(nonce).encode(&mut self.bytes);
        }
        has_acked_routine
    }

    /// Encodes an ACK for each lane that has something new, as soon as one of the lanes must not wait. Returns
    /// true if an ACK of routine was encoded.
    fn encode_acks(
        &mut self,
        durable_next: Lanes<u64>,
        queued: Lanes<u64>,
        intake: &mut Intake,
        now: Instant,
    ) -> bool {
        let news =
            Lanes::from_fn(|priority| self.news(priority, durable_next[priority], queued[priority], intake));
        let is_overdue = self.credit_due.is_some_and(|due| now >= due);
        if !is_overdue && !news.values().any(|news| news.is_urgent) {
            let delay = if news.values().any(|news| news.is_credit_awaited) {
                Some(CREDIT_DELAY)
            } else {
                stalled_credit_delay(intake)
            };
            let due = delay.map(|delay| now + delay);
            self.credit_due = due.map(|due| self.credit_due.map_or(due, |before| before.min(due)));
            // Routine is due and yet not urgent: an ACK that was sent for another reason has already reported
            // its frames.
            self.is_routine_due = false;
            return false;
        }
        let mut has_acked = Lanes::both(false);
        for (priority, news) in news {
            let is_first = self.last_acks[priority].is_none();
            if is_first || news.is_new || news.has_grown {
                let NextAck { values: AckValues { durable_next, duplicates }, credit_limit, .. } = news;
                intake.credit(priority).grant(credit_limit);
                self.last_acks[priority] = Some(news.values);
                Ack { priority, duplicates, durable_next, credit_limit }.encode(&mut self.bytes);
                has_acked[priority] = true;
            }
        }
        self.credit_due = stalled_credit_delay(intake).map(|delay| now + delay);
        let has_acked_routine = has_acked.routine;
        self.is_routine_due &= !has_acked_routine;
        has_acked_routine
    }

    /// Compares the current values of a lane with its last ACK.
    fn news(&self, priority: FramePriority, durable_next: u64, queued: u64, intake: &mut Intake) -> NextAck {
        let values = AckValues { durable_next, duplicates: intake.duplicates(priority) };
        let is_in_flight = intake.accepted_next()[priority] > durable_next;
        let credit = intake.credit(priority);
        let credit_limit = credit.grantable(queued);
        let has_grown = credit_limit > credit.granted();
        let before = self.last_acks[priority];
        let is_new = before != Some(values);
        let may_wait = before.is_some_and(|before| {
            let is_paced = priority == FramePriority::Routine && !self.is_routine_due;
            !is_new || (is_paced && before.duplicates == values.duplicates)
        });
        // Another ACK of this lane will follow, and it can carry the credit: some frames are not durable yet, or
        // are durable and not reported yet.
        let is_followed = is_in_flight || is_new;
        NextAck {
            values,
            credit_limit,
            is_new,
            has_grown,
            is_urgent: !may_wait || credit.is_worth_sending(credit_limit),
            is_credit_awaited: has_grown && !(is_followed && credit.is_ample()),
        }
    }

    /// Writes as many bytes as the socket takes.
    pub(super) fn write_to(&mut self, socket: &mut Socket) -> io::Result<()> {
        while !self.bytes.is_empty() {
            match socket.try_write(&self.bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.bytes.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if std::mem::take(&mut self.has_part) {
            // Only a part of the catalog needs so much room.
            self.bytes = BytesMut::new();
        }
        Ok(())
    }
}

/// How long credit that is not yet granted may wait while commits stall. `None` if each lane has its whole window
/// granted.
fn stalled_credit_delay(intake: &mut Intake) -> Option<Duration> {
    let is_outstanding = FramePriority::ALL.iter().any(|priority| intake.credit(*priority).is_outstanding());
    is_outstanding.then_some(STALLED_CREDIT_DELAY)
}

#[cfg(test)]
mod tests;
