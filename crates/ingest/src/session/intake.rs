//! The effect of a client's messages: the checks of FRAME in the order that protocol.md gives, without I/O.

use std::sync::Arc;

use super::credit::Credit;
use super::input::READ_BYTES_MIN;
use frame::{BufferPool, FrameMeta, FramePriority, FrameRun, Lanes, Origin, ReadBuffer};
use wire::{Bye, ClientMessage, ErrorCode, FrameHeader, WireError, cut, frame_cost, kind};

/// Without credit, one read takes at most this fraction (1/n) of the room in the windows. The smallest frames
/// take more than twice as many bytes in memory as on the wire.
const UNCREDITED_SHARE: u64 = 3;
/// How many PINGs a ZSTD may have. They cost no credit, and a few compressed bytes could be very many of them.
const PACKED_PINGS_MAX: usize = 64;

/// Checks messages and collects the accepted frames until they are handed over.
#[derive(Debug)]
pub(super) struct Intake {
    /// The state of each lane.
    lanes: Lanes<Lane>,
    /// The cost that may wait in the queue, per lane. It bounds the reads of a client without credit.
    windows: Lanes<u64>,
    /// The client wants no ACK (NO_ACK in HELLO), so it has no credit either.
    no_ack: bool,
    /// WELCOME granted ZSTD.
    takes_zstd: bool,
    /// The BYE of the client.
    said_bye: Option<Bye>,
    /// What was counted since the last [`Self::take_batch`].
    gathered: Gathered,
}

/// The state of a lane.
#[derive(Debug)]
struct Lane {
    /// Sequence of the last FRAME on this connection, also if it was a duplicate.
    previous: Option<u64>,
    /// One above the highest accepted sequence. A lower one is a duplicate.
    accepted_next: u64,
    /// Duplicates on this connection, as ACK reports them.
    duplicates: u32,
    /// What the client may send.
    credit: Credit,
}

/// Counts for the messages of one read.
#[derive(Debug, Default)]
struct Gathered {
    /// FRAME messages, the duplicates and the refused one included.
    received: u64,
    /// FRAMEs that were accepted before.
    duplicates: u64,
    /// Why the last FRAME was refused.
    rejected: Option<ErrorCode>,
}

/// The frames of one read, to be handed over.
#[derive(Debug)]
pub(super) struct HandOver {
    /// The accepted frames.
    pub(super) lanes: Lanes<Option<FrameRun>>,
    /// FRAME messages read, including duplicates and refused ones.
    pub(super) received: u64,
    /// FRAME messages dropped because they had been accepted before.
    pub(super) duplicates: u64,
    /// Why the last FRAME was refused, if it was.
    pub(super) rejected: Option<ErrorCode>,
}

/// The outcome of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// ZSTD, which was granted. [`Intake::take_packed`] takes the messages in it.
    Packed,
    /// A FRAME, accepted or dropped as a duplicate.
    Frame,
    /// Another message, on which the caller must act.
    Other(ClientMessage),
}

impl Intake {
    /// Continues from `accepted_next`. Lanes have `windows` of credit unless `no_ack`. A message costs up to
    /// `message_max`.
    pub(super) fn new(
        accepted_next: Lanes<u64>,
        windows: Lanes<u64>,
        message_max: u64,
        no_ack: bool,
    ) -> Self {
        let lanes = Lanes::from_fn(|priority| Lane {
            previous: None,
            accepted_next: accepted_next[priority],
            duplicates: 0,
            credit: Credit::new(windows[priority], message_max),
        });
        Self { lanes, windows, no_ack, takes_zstd: false, said_bye: None, gathered: Gathered::default() }
    }

    /// Takes ZSTD if WELCOME granted it.
    pub(super) fn with_zstd(self, takes_zstd: bool) -> Self {
        Self { takes_zstd, ..self }
    }

    /// Takes one message body, which begins at `at` in the bytes read. Notes an accepted frame in `metas`.
    ///
    /// # Errors
    /// The answer for the client. The message had no effect.
    pub(super) fn take(
        &mut self,
        at: usize,
        body: &[u8],
        metas: &mut Lanes<Vec<FrameMeta>>,
    ) -> Result<Taken, WireError> {
        match body.first() {
            Some(&kind::FRAME) => self.take_counted(at, body, metas).map(|()| Taken::Frame),
            Some(&kind::ZSTD) if self.takes_zstd => Ok(Taken::Packed),
            _ => self.take_control(ClientMessage::decode_control(body)?),
        }
    }

    /// Takes the messages that a ZSTD had, which are FRAME and PING only. Notes accepted frames in `metas`, also before
    /// an offending message. Returns the nonce of the last PING.
    pub(super) fn take_packed(
        &mut self,
        bytes: &[u8],
        metas: &mut Lanes<Vec<FrameMeta>>,
    ) -> (Option<u64>, Result<(), WireError>) {
        let mut pings = 0;
        let mut last_ping = None;
        let mut bodies = cut(bytes, usize::MAX);
        for (at, body) in &mut bodies {
            let taken = match body.first() {
                Some(&kind::FRAME) => self.take_counted(at, body, metas),
                Some(&kind::PING) if pings == PACKED_PINGS_MAX => Err(WireError::protocol(format!(
                    "ZSTD with more than {PACKED_PINGS_MAX} PINGs, which cost no credit"
                ))),
                Some(&kind::PING) => ClientMessage::decode_control(body).map(|message| {
                    pings += 1;
                    if let ClientMessage::Ping(nonce) = message {
                        last_ping = Some(nonce);
                    }
                }),
                other => Err(unpackable(other.copied())),
            };
            if taken.is_err() {
                return (last_ping, taken);
            }
        }
        let (end, _) = bodies.end();
        let is_whole = end == bytes.len();
        let whole = is_whole.then_some(()).ok_or_else(|| WireError::protocol("ZSTD ends inside a message"));
        (last_ping, whole)
    }

    fn take_counted(
        &mut self,
        at: usize,
        body: &[u8],
        metas: &mut Lanes<Vec<FrameMeta>>,
    ) -> Result<(), WireError> {
        self.gathered.received += 1;
        self.take_frame(at, body, metas).inspect_err(|error| self.gathered.rejected = Some(error.code))
    }

    fn take_control(&mut self, message: ClientMessage) -> Result<Taken, WireError> {
        if let ClientMessage::Bye(bye) = message {
            if self.said_bye.is_some() {
                return Err(WireError::protocol("a second BYE"));
            }
            self.said_bye = Some(bye);
        }
        Ok(Taken::Other(message))
    }

    fn take_frame(
        &mut self,
        at: usize,
        body: &[u8],
        metas: &mut Lanes<Vec<FrameMeta>>,
    ) -> Result<(), WireError> {
        let FrameHeader { priority, flags, header_len, sequence, ert_ns } = FrameHeader::decode(body)?;
        let cost = frame_cost(body.len());
        if self.said_bye.is_some() {
            return Err(WireError::protocol(format!("FRAME {sequence} after BYE")));
        }
        let lane = &mut self.lanes[priority];
        if let Some(previous) = lane.previous.filter(|previous| sequence <= *previous) {
            return Err(regression(priority, sequence, previous));
        }
        if !self.no_ack {
            lane.credit.consume(cost).map_err(|left| overrun(priority, sequence, cost, left))?;
        }
        lane.previous = Some(sequence);
        if sequence < lane.accepted_next {
            lane.duplicates = lane.duplicates.saturating_add(1);
            self.gathered.duplicates += 1;
            return Ok(());
        }
        lane.accepted_next = sequence + 1;
        // One read brings far fewer than 4 GiB, and `header_len` has one byte on the wire.
        let payload_at = (at + header_len) as u32;
        let payload_len = (body.len() - header_len) as u32;
        let (received_after_us, header_len) = (0, header_len as u8);
        metas[priority].push(FrameMeta {
            sequence,
            ert_ns,
            payload_at,
            payload_len,
            received_after_us,
            header_len,
            flags,
        });
        Ok(())
    }

    /// Returns the frames noted in `buffer`; `None` when there was no FRAME. `buffer` returns to `pool` in
    /// the end.
    pub(super) fn take_batch(
        &mut self,
        buffer: ReadBuffer,
        pool: &Arc<BufferPool>,
        origin: &Arc<Origin>,
        received_ns: i64,
    ) -> Option<HandOver> {
        let Gathered { received, duplicates, rejected } = std::mem::take(&mut self.gathered);
        let lanes = FrameRun::of_read(origin, received_ns, buffer, !self.no_ack, pool);
        (received > 0).then_some(HandOver { lanes, received, duplicates, rejected })
    }

    /// How many bytes to read at most while frames of cost `queued` wait; 0 means none. Credit bounds the
    /// sources that have credit. The windows bound the others.
    pub(super) fn read_bytes_max(&self, queued: Lanes<u64>) -> usize {
        if !self.no_ack {
            return usize::MAX;
        }
        let room =
            self.windows.iter().map(|(priority, window)| window.saturating_sub(queued[priority])).min();
        match room {
            None | Some(0) => 0,
            Some(room) => ((room / UNCREDITED_SHARE) as usize).max(READ_BYTES_MIN),
        }
    }

    /// The lanes for which an empty queue must wake the session: the client may be out of credit, or has no
    /// credit and the session reads when there is room.
    pub(super) fn awaits_empty(&self) -> Lanes<bool> {
        self.lanes.each_ref().map(|lane| self.no_ack || !lane.credit.is_ample())
    }

    pub(super) const fn wants_acks(&self) -> bool {
        !self.no_ack
    }

    pub(super) fn accepted_next(&self) -> Lanes<u64> {
        self.lanes.each_ref().map(|lane| lane.accepted_next)
    }

    pub(super) const fn said_bye(&self) -> Option<Bye> {
        self.said_bye
    }

    pub(super) fn duplicates(&self, priority: FramePriority) -> u32 {
        self.lanes[priority].duplicates
    }

    pub(super) fn credit(&mut self, priority: FramePriority) -> &mut Credit {
        &mut self.lanes[priority].credit
    }
}

#[cold]
fn unpackable(kind: Option<u8>) -> WireError {
    let name = kind.and_then(wire::kind::name).unwrap_or("a message");
    WireError::protocol(format!(
        "{name} (0x{:02x}) in a ZSTD, which carries FRAME and PING only",
        kind.unwrap_or(0)
    ))
}

#[cold]
fn regression(priority: FramePriority, sequence: u64, previous: u64) -> WireError {
    let text =
        format!("{} sequence {sequence} after {previous}: sequences of a lane must rise", priority.name());
    WireError::new(ErrorCode::SequenceRegression, text).with_detail(previous)
}

#[cold]
fn overrun(priority: FramePriority, sequence: u64, cost: u64, left: u64) -> WireError {
    let text =
        format!("{} FRAME {sequence} costs {cost}, but only {left} of the credit is left", priority.name());
    WireError::new(ErrorCode::FlowControl, text)
}

#[cfg(test)]
mod tests;
