//! The books of one source: what it has sent, what the server may still lose, what it may send next.
//!
//! No I/O: [`ResendBuffer::fill`] decides what is written next. [`ResendBuffer::acknowledge`] and
//! [`ResendBuffer::open`] handle the answers of the server. Both lanes take their sequences from one counter:
//! [`Content::priority`] gives the lane of a sequence. Each lane walks the sequences at its own pace, so that
//! a lane without credit does not delay the other. A frame is generated when it is written. Of a kept frame
//! only sequence and time are held, because its content can be generated again.

use bytes::{Bytes, BytesMut};

use super::content::Content;
use client::{self, SourceError, WRITE_BYTES};
use frame::{FrameFlags, FramePriority, Lanes};
use wire::data::FRAME_HEADER_BYTES;
use wire::framing::PREFIX_BYTES;
use wire::{Ack, FrameMessage, frame_cost};

/// Most unacknowledged frames a source keeps per lane; a full lane waits for its ACK.
pub(super) const UNACKED_FRAMES_MAX: usize = 16_384;
/// Without a rate, one lane runs at most this many sequences ahead of the other.
pub(super) const LANE_LEAD_MAX: u64 = 4_096;

/// The frames that one [`ResendBuffer::fill`] put into the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filled {
    /// Frames never written before.
    pub(super) sent: u64,
    /// Frames written again.
    pub(super) resent: u64,
}

/// The frames that an ACK or BYE settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Frames that this ACK or BYE shows to be on stable storage.
    pub(super) frames: u64,
    /// Sum of their payload lengths.
    pub(super) bytes: u64,
}

/// Which frames may be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// No more frames: the feed is over, or the server is draining.
    Nothing,
    /// Frames with sequences below this.
    Below(u64),
    /// As fast as they can be sent.
    FlatOut,
}

/// Whether the server acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// ACKs and credit.
    Acked,
    /// NO_ACK: nothing is kept, and only BYE says what arrived.
    Unacked,
}

/// A frame that was written and is not yet known to be durable.
#[derive(Clone, Copy, Debug)]
struct Kept {
    sequence: u64,
    first_written_ns: u64,
}

impl client::Kept for Kept {
    fn sequence(&self) -> u64 {
        self.sequence
    }
}

#[derive(Debug, Default)]
struct Lane {
    /// All frames of this lane below this sequence are generated.
    cursor: u64,
    books: client::Lane<Kept>,
    /// With NO_ACK: the first sequence of this connection, and what was written on it.
    unknown_from: u64,
    unknown: Settled,
}

/// The books of one source; see the module.
#[derive(Debug)]
pub(super) struct ResendBuffer {
    content: Content,
    /// No sequence from here on is generated.
    limit: u64,
    mode: Mode,
    lanes: Lanes<Lane>,
    sent: u64,
    acked: u64,
}

impl ResendBuffer {
    /// The books of a feed of `limit` frames.
    pub(super) fn new(content: Content, limit: u64, mode: Mode) -> Self {
        Self { content, limit, mode, lanes: Lanes::default(), sent: 0, acked: 0 }
    }

    /// Starts a new connection, whose WELCOME named `resume_next` and `max_message_bytes`.
    ///
    /// # Errors
    /// When the server knows more than was sent, has lost acknowledged frames, or does not take frames of
    /// this size.
    pub(super) fn open(
        &mut self,
        resume_next: Lanes<u64>,
        max_message_bytes: u32,
    ) -> Result<(), SourceError> {
        let body_bytes = FRAME_HEADER_BYTES + self.content.payload_bytes_max();
        if u32::try_from(body_bytes).map_or(true, |bytes| bytes > max_message_bytes) {
            return Err(SourceError::FrameTooLarge { body_bytes, max_message_bytes });
        }
        for priority in FramePriority::ALL {
            let (mode, lane) = (self.mode, &mut self.lanes[priority]);
            match mode {
                Mode::Acked => lane.open(priority, resume_next[priority])?,
                Mode::Unacked => lane.open_unacked(),
            }
        }
        Ok(())
    }

    /// Appends the next frames, emergencies first, until `out` holds [`WRITE_BYTES`] or nothing may go.
    ///
    /// `now_ns` is the time since the start of the run, `ert_base_ns` the unix time of that start; `None`
    /// means that the reception time of the frames is unknown.
    pub(super) fn fill(
        &mut self,
        out: &mut BytesMut,
        due: Due,
        now_ns: u64,
        ert_base_ns: Option<i64>,
    ) -> Filled {
        let horizon = match due {
            Due::Nothing => 0,
            Due::Below(sequence) => sequence.min(self.limit),
            Due::FlatOut => {
                let slower = self.lanes.emergency.cursor.min(self.lanes.routine.cursor);
                slower.saturating_add(LANE_LEAD_MAX).min(self.limit)
            }
        };
        let mut filled = Filled::default();
        for priority in FramePriority::ALL {
            while out.len() < WRITE_BYTES {
                let Some(kept) = self.next_frame(priority, horizon, now_ns, &mut filled) else {
                    break;
                };
                let ert_ns =
                    ert_base_ns.map_or(0, |base| base.saturating_add_unsigned(kept.first_written_ns));
                put_frame(&self.content, priority, kept.sequence, ert_ns, out);
            }
        }
        self.sent += filled.sent;
        filled
    }

    /// Takes the next frame of a lane that credit and room allow: first kept frames, then new ones.
    fn next_frame(
        &mut self,
        priority: FramePriority,
        horizon: u64,
        now_ns: u64,
        filled: &mut Filled,
    ) -> Option<Kept> {
        let lane = &mut self.lanes[priority];
        let again = lane.books.next().copied();
        let sequence = match again {
            Some(kept) => kept.sequence,
            None if lane.books.kept_frames() < UNACKED_FRAMES_MAX => {
                lane.seek(&self.content, priority, horizon)?
            }
            None => return None,
        };
        let payload_bytes = self.content.payload_bytes(sequence);
        let cost = frame_cost(FRAME_HEADER_BYTES + payload_bytes);
        if self.mode == Mode::Acked && !lane.books.has_credit(cost) {
            return None;
        }
        if let Some(kept) = again {
            lane.books.write(sequence, cost);
            filled.resent += 1;
            return Some(kept);
        }
        let new = Kept { sequence, first_written_ns: now_ns };
        lane.cursor = sequence + 1;
        match self.mode {
            Mode::Acked => {
                lane.books.keep(new);
            }
            Mode::Unacked => {
                lane.unknown.frames += 1;
                lane.unknown.bytes += payload_bytes as u64;
            }
        }
        lane.books.write(sequence, cost);
        filled.sent += 1;
        Some(new)
    }

    /// Handles an ACK. Calls `settled(first_written_ns, count)` for the frames that it covers, oldest first.
    /// Returns what it settled, and the number of duplicates that were not reported before.
    ///
    /// # Errors
    /// When the ACK covers frames that were never sent.
    pub(super) fn acknowledge(
        &mut self,
        ack: &Ack,
        settled: impl FnMut(u64, u64),
    ) -> Result<(Settled, u64), SourceError> {
        let duplicates = self.lanes[ack.priority].books.credit(ack);
        let settled = self.settle(ack.priority, ack.durable_next, settled)?;
        Ok((settled, u64::from(duplicates)))
    }

    /// Handles one lane of the server's BYE.
    ///
    /// # Errors
    /// When the BYE covers frames that were never sent.
    pub(super) fn finish(
        &mut self,
        priority: FramePriority,
        durable_next: u64,
        settled: impl FnMut(u64, u64),
    ) -> Result<Settled, SourceError> {
        match self.mode {
            Mode::Acked => self.settle(priority, durable_next, settled),
            Mode::Unacked => {
                let settled = self.lanes[priority].learn(&self.content, priority, durable_next);
                self.acked += settled.frames;
                Ok(settled)
            }
        }
    }

    fn settle(
        &mut self,
        priority: FramePriority,
        durable_next: u64,
        mut settled: impl FnMut(u64, u64),
    ) -> Result<Settled, SourceError> {
        let (mut sum, mut run) = (Settled::default(), (0, 0));
        let content = &self.content;
        self.lanes[priority].books.settle(priority, durable_next, |kept| {
            sum.frames += 1;
            sum.bytes += content.payload_bytes(kept.sequence) as u64;
            if run.0 != kept.first_written_ns && run.1 > 0 {
                settled(run.0, run.1);
                run.1 = 0;
            }
            run = (kept.first_written_ns, run.1 + 1);
        })?;
        if run.1 > 0 {
            settled(run.0, run.1);
        }
        self.acked += sum.frames;
        Ok(sum)
    }

    /// One past the last sequence sent, per lane, for BYE.
    pub(super) fn sent_next(&self) -> Lanes<u64> {
        self.lanes.each_ref().map(|lane| lane.books.sent_next())
    }

    /// Whether every frame of the feed is generated.
    pub(super) fn is_exhausted(&self) -> bool {
        self.lanes.values().all(|lane| lane.cursor >= self.limit)
    }

    /// Whether no kept frame waits to be written on this connection.
    pub(super) fn is_written(&self) -> bool {
        self.lanes.values().all(|lane| lane.books.is_written())
    }

    /// Frames sent and not known to be durable.
    pub(super) fn unacked(&self) -> u64 {
        self.sent - self.acked
    }

    /// Whether the server acknowledges, so that a further connection could show what became of unknown
    /// frames.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }
}

impl Lane {
    fn open(&mut self, priority: FramePriority, resume_next: u64) -> Result<(), SourceError> {
        let (sent_next, durable_next) = (self.books.sent_next(), self.books.durable_next());
        if resume_next > sent_next {
            return Err(SourceError::StateLost { lane: priority, resume_next, sent_next });
        }
        if resume_next < durable_next {
            return Err(SourceError::PromiseBroken { lane: priority, resume_next, durable_next });
        }
        self.books.open(resume_next);
        Ok(())
    }

    fn open_unacked(&mut self) {
        self.unknown_from = self.cursor;
        self.unknown = Settled::default();
    }

    /// Moves the cursor to this lane's next sequence below `horizon`.
    fn seek(&mut self, content: &Content, priority: FramePriority, horizon: u64) -> Option<u64> {
        while self.cursor < horizon {
            if content.priority(self.cursor) == priority {
                return Some(self.cursor);
            }
            self.cursor += 1;
        }
        None
    }

    /// What BYE says about the frames of this connection.
    fn learn(&mut self, content: &Content, priority: FramePriority, durable_next: u64) -> Settled {
        let unknown = std::mem::take(&mut self.unknown);
        if durable_next >= self.books.sent_next() {
            return unknown;
        }
        let mut sum = Settled::default();
        for sequence in self.unknown_from..durable_next {
            if content.priority(sequence) == priority {
                sum.frames += 1;
                sum.bytes += content.payload_bytes(sequence) as u64;
            }
        }
        sum
    }
}

/// Appends one FRAME. The payload is generated in place, and the length in front is set afterwards.
fn put_frame(content: &Content, priority: FramePriority, sequence: u64, ert_ns: i64, out: &mut BytesMut) {
    let start = out.len();
    FrameMessage::new(priority, FrameFlags::default(), sequence, ert_ns, Bytes::new()).encode(out);
    content.put_payload(sequence, out);
    let body_bytes = (out.len() - start - PREFIX_BYTES) as u32;
    out[start..start + PREFIX_BYTES].copy_from_slice(&body_bytes.to_be_bytes());
}

#[cfg(test)]
mod tests;
