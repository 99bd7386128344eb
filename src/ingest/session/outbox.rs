//! What the daemon has to tell a client: the newest values, put into bytes only when there is room to write.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::catalog::CatalogOwed;
use super::intake::Intake;
use crate::frame::FramePriority;
use crate::wire::{Ack, GoAway, ServerMessage, Welcome};

/// How long may wait what is to be followed by more: small growth of credit, and routine that became durable while
/// [`MORE_FRAMES_MIN`] are on their way behind it.
///
/// Each ACK is a write, a packet and a wake-up on both sides: under load one for every commit would cost as much as the
/// frames it is about.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// An ACK of routine waits for company while so much of the sequence is accepted and not yet durable.
const MORE_FRAMES_MIN: u64 = 64;

/// Messages to a client. Bounded: ACK, PING and PONG replace older ones of their kind that were not yet encoded, and of
/// the catalog there is one part at a time.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: BytesMut,
    /// `bytes` hold a part of the catalog, which is large.
    has_part: bool,
    heartbeat: Duration,
    told: [Option<Told>; 2],
    pong: Option<u64>,
    ping: Option<u64>,
    goaway: Option<Duration>,
    /// When what waits for company goes alone.
    ack_due: Option<Instant>,
}

/// What the last ACK of a lane said beside its credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    durable_next: u64,
    duplicates: u32,
}

impl Outbox {
    /// Opens with WELCOME; the first ACKs follow with the first [`Outbox::refresh`].
    pub(super) fn new(welcome: Welcome) -> Self {
        let mut bytes = BytesMut::new();
        welcome.encode(&mut bytes);
        let heartbeat = Duration::from_secs(u64::from(welcome.heartbeat_s));
        Self {
            bytes,
            has_part: false,
            heartbeat,
            told: [None; 2],
            pong: None,
            ping: None,
            goaway: None,
            ack_due: None,
        }
    }

    /// The heartbeat WELCOME named.
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

    /// When an ACK that waits for company goes alone; not while older bytes still wait to be written.
    pub(super) fn ack_due(&self) -> Option<Instant> {
        self.ack_due.filter(|_| self.bytes.is_empty())
    }

    /// Encodes what is new, unless older bytes still wait to be written.
    ///
    /// The first ACKs come before anything else but WELCOME.
    pub(super) fn refresh(
        &mut self,
        durable_next: [u64; 2],
        queued: [u64; 2],
        intake: &mut Intake,
        now: Instant,
    ) {
        if self.bytes.is_empty() || (self.told == [None; 2] && intake.wants_acks()) {
            self.encode(durable_next, queued, intake, now);
        }
    }

    /// Encodes the next part of the catalog, unless one still waits to be written. Behind [`Outbox::refresh`], so that what
    /// is short goes first.
    pub(super) fn append_catalog(&mut self, catalog: &mut CatalogOwed) {
        if !self.has_part {
            self.has_part = catalog.encode_next(&mut self.bytes);
        }
    }

    /// Everything that is known now, to be written before the last message.
    pub(super) fn finish(
        mut self,
        durable_next: [u64; 2],
        queued: [u64; 2],
        intake: &mut Intake,
        now: Instant,
    ) -> BytesMut {
        (self.pong, self.ping, self.goaway) = (None, None, None);
        self.ack_due = Some(now);
        self.encode(durable_next, queued, intake, now);
        self.bytes
    }

    fn encode(&mut self, durable_next: [u64; 2], queued: [u64; 2], intake: &mut Intake, now: Instant) {
        if intake.wants_acks() {
            self.encode_acks(durable_next, queued, intake, now);
        }
        if let Some(deadline) = self.goaway.take() {
            let text = "the daemon is draining, finish with BYE or come back later".to_owned();
            ServerMessage::GoAway(GoAway { deadline, text }).encode(&mut self.bytes);
        }
        if let Some(nonce) = self.pong.take() {
            ServerMessage::Pong(nonce).encode(&mut self.bytes);
        }
        if let Some(nonce) = self.ping.take() {
            ServerMessage::Ping(nonce).encode(&mut self.bytes);
        }
    }

    fn encode_acks(&mut self, durable_next: [u64; 2], queued: [u64; 2], intake: &mut Intake, now: Instant) {
        let is_overdue = self.ack_due.is_some_and(|due| now >= due);
        let mut waits = false;
        for priority in FramePriority::ALL {
            let lane = priority.lane();
            let told = Told { durable_next: durable_next[lane], duplicates: intake.duplicates(priority) };
            let is_followed =
                intake.accepted_next()[lane].saturating_sub(told.durable_next) >= MORE_FRAMES_MIN;
            let credit = intake.credit(priority);
            let credit_limit = credit.grantable(queued[lane]);
            let is_new = self.told[lane] != Some(told);
            let may_wait = match self.told[lane] {
                None => false,
                Some(before) if is_new => {
                    priority == FramePriority::Routine && is_followed && before.duplicates == told.duplicates
                }
                Some(_) => true,
            };
            let has_grown = credit_limit > credit.granted();
            if !may_wait || credit.is_worth_telling(credit_limit) || (is_overdue && (is_new || has_grown)) {
                credit.grant(credit_limit);
                self.told[lane] = Some(told);
                let Told { durable_next, duplicates } = told;
                Ack { priority, duplicates, durable_next, credit_limit }.encode(&mut self.bytes);
            } else {
                waits |= is_new || has_grown;
            }
        }
        self.ack_due = match (waits, self.ack_due) {
            (true, Some(due)) if !is_overdue => Some(due),
            (true, _) => Some(now + ACK_DELAY),
            (false, _) => None,
        };
    }

    /// Writes what the socket takes.
    pub(super) fn write_to(&mut self, socket: &TcpStream) -> io::Result<()> {
        while !self.bytes.is_empty() {
            match socket.try_write(&self.bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.bytes.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if std::mem::take(&mut self.has_part) {
            // Nothing else needs so much room.
            self.bytes = BytesMut::new();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
