//! What a client's messages do: the checks of FRAME in the order protocol.md sets, without I/O.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::credit::Credit;
use crate::frame::{Frame, FramePriority, Origin};
use crate::wire::{Bye, ClientMessage, ErrorCode, FrameMessage, WireError, kind};

/// The payloads of a batch may pin this many times its cost; beyond that they are copied out of the read buffer.
const PINNED_FACTOR_MAX: u64 = 2;

/// Judges messages and gathers what is accepted until it is handed over.
#[derive(Debug)]
pub(super) struct Intake {
    lanes: [Lane; 2],
    windows: [u64; 2],
    no_ack: bool,
    said_bye: Option<Bye>,
    batch: Batch,
}

#[derive(Debug)]
struct Lane {
    /// Of the last FRAME on this connection, also if it was a duplicate.
    previous: Option<u64>,
    accepted_next: u64,
    duplicates: u32,
    credit: Credit,
}

/// What was read and is not yet handed over.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// `[emergency, routine]`.
    pub(super) lanes: [Vec<Frame>; 2],
    /// FRAMEs read, whatever became of them.
    pub(super) received: u64,
    /// Those dropped because they had been accepted before.
    pub(super) duplicates: u64,
    /// Why the last one was refused, if it was.
    pub(super) rejected: Option<ErrorCode>,
    cost: u64,
}

impl Batch {
    /// Moves the payloads into memory of their own, all of them together.
    fn compact(&mut self) {
        let length = self.lanes.iter().flatten().map(|frame| frame.payload.len()).sum();
        let mut payloads = BytesMut::with_capacity(length);
        for frame in self.lanes.iter_mut().flatten() {
            payloads.extend_from_slice(&frame.payload);
            frame.payload = payloads.split().freeze();
        }
    }
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was a FRAME, accepted or dropped as a duplicate.
    Frame,
    /// It is for the caller to act on.
    Other(ClientMessage),
}

impl Intake {
    /// Goes on from `accepted_next`; lanes have `windows` of credit unless `no_ack`.
    pub(super) fn new(accepted_next: [u64; 2], windows: [u64; 2], no_ack: bool) -> Self {
        let lane = |lane: usize| Lane {
            previous: None,
            accepted_next: accepted_next[lane],
            duplicates: 0,
            credit: Credit::new(windows[lane]),
        };
        Self { lanes: [lane(0), lane(1)], windows, no_ack, said_bye: None, batch: Batch::default() }
    }

    /// Takes one message body.
    ///
    /// # Errors
    /// What to answer; the message had no effect.
    pub(super) fn take(
        &mut self,
        body: Bytes,
        origin: &Arc<Origin>,
        received_ns: i64,
    ) -> Result<Taken, WireError> {
        let is_frame = body.first() == Some(&kind::FRAME);
        let taken = ClientMessage::decode(body).and_then(|message| match message {
            ClientMessage::Frame(frame) => self.take_frame(frame, origin, received_ns).map(|()| Taken::Frame),
            ClientMessage::Bye(_) if self.said_bye.is_some() => Err(WireError::protocol("a second BYE")),
            ClientMessage::Bye(bye) => {
                self.said_bye = Some(bye);
                Ok(Taken::Other(ClientMessage::Bye(bye)))
            }
            other => Ok(Taken::Other(other)),
        });
        if is_frame {
            self.batch.received += 1;
            self.batch.rejected = taken.as_ref().err().map(|error| error.code);
        }
        taken
    }

    fn take_frame(
        &mut self,
        frame: FrameMessage,
        origin: &Arc<Origin>,
        received_ns: i64,
    ) -> Result<(), WireError> {
        let FrameMessage { priority, flags, sequence, ert_ns, cost, payload } = frame;
        if self.said_bye.is_some() {
            return Err(WireError::protocol(format!("FRAME {sequence} after BYE")));
        }
        let lane = &mut self.lanes[priority.lane()];
        if let Some(previous) = lane.previous.filter(|previous| sequence <= *previous) {
            return Err(regression(priority, sequence, previous));
        }
        if !self.no_ack {
            lane.credit.consume(cost).map_err(|left| overrun(priority, sequence, cost, left))?;
        }
        lane.previous = Some(sequence);
        if sequence < lane.accepted_next {
            lane.duplicates = lane.duplicates.saturating_add(1);
            self.batch.duplicates += 1;
            return Ok(());
        }
        lane.accepted_next = sequence + 1;
        self.batch.cost += cost;
        self.batch.lanes[priority.lane()].push(Frame {
            source_id: origin.stream.source_id,
            source_kind: origin.stream.source_kind,
            priority,
            flags,
            sequence,
            ert_ns,
            received_ns,
            origin: Arc::clone(origin),
            payload,
        });
        Ok(())
    }

    /// What to hand over; `None` when there was no FRAME. `pinned_bytes` is what a payload of it keeps in memory.
    pub(super) fn take_batch(&mut self, pinned_bytes: usize) -> Option<Batch> {
        if self.batch.received == 0 {
            return None;
        }
        let mut batch = std::mem::take(&mut self.batch);
        if pinned_bytes as u64 > batch.cost.saturating_mul(PINNED_FACTOR_MAX) {
            batch.compact();
        }
        Some(batch)
    }

    /// Gives back memory that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        self.batch.lanes.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Takes the memory of a batch that was handed over, to be used again.
    pub(super) fn give_back(&mut self, batch: Batch) {
        self.batch = Batch { lanes: batch.lanes, ..Batch::default() };
        self.batch.lanes.iter_mut().for_each(Vec::clear);
    }

    /// Whether to read on while frames of cost `queued` wait: credit bounds whoever has some, the windows the rest.
    pub(super) fn has_room(&self, queued: [u64; 2]) -> bool {
        !self.no_ack || queued.iter().zip(self.windows).all(|(queued, window)| *queued < window)
    }

    pub(super) const fn wants_acks(&self) -> bool {
        !self.no_ack
    }

    pub(super) fn accepted_next(&self) -> [u64; 2] {
        [self.lanes[0].accepted_next, self.lanes[1].accepted_next]
    }

    pub(super) const fn said_bye(&self) -> Option<Bye> {
        self.said_bye
    }

    pub(super) fn duplicates(&self, priority: FramePriority) -> u32 {
        self.lanes[priority.lane()].duplicates
    }

    pub(super) fn credit(&mut self, priority: FramePriority) -> &mut Credit {
        &mut self.lanes[priority.lane()].credit
    }
}

#[cold]
fn regression(priority: FramePriority, sequence: u64, previous: u64) -> WireError {
    let text = format!("{} sequence {sequence} after {previous}, it must rise", priority.name());
    WireError::new(ErrorCode::SequenceRegression, text).with_detail(previous)
}

#[cold]
fn overrun(priority: FramePriority, sequence: u64, cost: u64, left: u64) -> WireError {
    let text = format!("{} FRAME {sequence} costs {cost}, {left} of the credit are left", priority.name());
    WireError::new(ErrorCode::FlowControl, text)
}

#[cfg(test)]
mod tests;
