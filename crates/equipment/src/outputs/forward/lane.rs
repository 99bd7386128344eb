//! The loop of one lane of a forwarder.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::parcel::Parcel;
use super::{Side, Stand, Trouble};
use crate::outputs::cursor::{self, CursorFile, Keeper, Position};
use crate::outputs::reader::{Ended, Part, Reader, cursor_saved, load};
use crate::outputs::status::{Client, OutputStatus};
use crate::outputs::{Context, Leave};
use actor::{Mailbox, Received};
use archive::History;
use config::{FORWARDED_BYTES, Output};
use feed::Ending;
use frame::FramePriority;

/// Longest time that a frame waits for others to fill its parcel.
const FILL_MAX: Duration = Duration::from_millis(10);
/// So many doubts without a parcel that is stored mean that another program writes there.
const DOUBTS_MAX: u32 = 32;
/// In a drain, another side that acknowledges nothing for this long is given up.
const DRAIN_STALL_MAX: Duration = Duration::from_millis(500);

/// A lane that is forwarded.
pub(in crate::outputs) struct Lane<S> {
    /// The other side.
    side: S,
    /// The lane.
    priority: FramePriority,
    /// The log.
    history: History,
    /// The position, the selection and the cursor.
    reader: Reader,
    /// Parcels that are not acknowledged, in order.
    parcels: VecDeque<Parcel>,
    /// How many of [`Self::parcels`] are in flight.
    sent: usize,
    /// The parcel that is being filled.
    open: Option<Parcel>,
    /// Memory of all these, in bytes.
    bytes: usize,
    /// Behind the last frame that the other side has.
    stored: Option<u64>,
    /// Doubts since a parcel was stored.
    doubts: u32,
    /// When a parcel was last stored, or there was none.
    moved_at: Instant,
    /// How far the shutdown of the daemon has come.
    ending: watch::Receiver<Ending>,
}

/// Finds where a lane goes on, whose other side stands at `stand`.
///
/// # Errors
/// When the cursor and the other side do not fit together.
pub(in crate::outputs) async fn begin<S: Side>(
    side: &mut S,
    stand: Stand,
    name: &str,
    lane: FramePriority,
    context: &Context,
) -> Result<Part, String> {
    let (history, is_empty) = (context.durable.history(), stand.next_offset.is_none());
    let file = CursorFile::new(&context.data_dir.join(cursor::DIR), &cursor::file_name(name, Some(lane)));
    let cursor = load(file.clone(), name).await.map_err(|error| error.to_string())?;
    let cursor = cursor.filter(|cursor| cursor.log_id == history.log_id());
    if let Some(cursor) = cursor.filter(|cursor| is_empty && cursor.sequence > 0)
        && let Err(Trouble::Over(why)) = side.explain_nothing(cursor.sequence, &file.shown()).await
    {
        return Err(why);
    }
    let head = history.watermark();
    if let Some(next) = stand.next_offset.filter(|next| *next > head) {
        return Err(format!(
            "the other side has frames of this log up to offset {next}, and the archive ends at {head}: the archive is an \
             older copy; put the newer one back, or forward to other subjects"
        ));
    }
    // If nothing was stored since the cursor was saved, the frames below it are stored or left out.
    let passed = cursor.filter(|cursor| cursor.sequence == stand.sequence).map(|cursor| cursor.next_offset);
    let next_offset = stand.next_offset.map(|next| passed.map_or(next, |passed| passed.max(next)));
    Ok(Part { lane, next_offset, stored: stand.next_offset, sequence: stand.sequence })
}

/// Forwards a lane until one side ends, and saves the cursor.
///
/// # Errors
/// Why it ended.
pub(in crate::outputs) async fn run<S: Side>(
    side: S,
    part: Part,
    (config, status, client): (Arc<Output>, Arc<OutputStatus>, Client),
    context: &Context,
    mut mailbox: Mailbox<Leave>,
) -> Result<(), Ended> {
    let (stored, sequence, priority) = (part.stored, part.sequence, part.lane);
    let mut reader = Reader::start(config, status, client, context, Some(part)).await?;
    if let Some(keeper) = &mut reader.keeper {
        keeper.stored_at(sequence);
    }
    let mut lane = Lane {
        side,
        priority,
        history: context.durable.history().clone(),
        reader,
        parcels: VecDeque::new(),
        sent: 0,
        open: None,
        bytes: 0,
        stored,
        doubts: 0,
        moved_at: Instant::now(),
        ending: context.ending.clone(),
    };
    let ended = lane.forward(&mut mailbox).await;
    lane.reader.finish().await;
    lane.side.close().await;
    Err(ended)
}

impl<S: Side> Lane<S> {
    async fn forward(&mut self, mailbox: &mut Mailbox<Leave>) -> Ended {
        loop {
            self.fill();
            if let Err(ended) = self.send().await {
                return ended;
            }
            self.pass();
            self.note_waiting();
            if let Some(ended) = self.judge_end() {
                return ended;
            }
            let now = Instant::now();
            if let Some(keeper) = &mut self.reader.keeper {
                keeper.act(now);
            }
            let due = self.next_due(now);
            let has_room = self.has_room();
            let Self { reader, side, ending, .. } = self;
            let outcome = tokio::select! {
                acknowledged = side.acknowledged() => Some(acknowledged),
                progress = reader.following.progress(has_room) => match progress {
                    Ok(()) => None,
                    Err(error) => return error.into(),
                },
                () = cursor_saved(&mut reader.keeper, &reader.config, &reader.status) => None,
                order = mailbox.recv() => match order {
                    Some(Received::Message(leave)) => return Ended::Stopped(leave),
                    _ => None,
                },
                _ = ending.changed() => None,
                () = sleep_until(due) => None,
            };
            let ended = match outcome {
                None => Ok(()),
                Some(Ok(sequence)) => {
                    self.acknowledge(sequence);
                    Ok(())
                }
                Some(Err(trouble)) => self.settle(trouble).await,
            };
            if let Err(ended) = ended {
                return ended;
            }
        }
    }

    const fn has_room(&self) -> bool {
        self.bytes < FORWARDED_BYTES as usize
    }

    /// Packs frames into parcels while there is room.
    fn fill(&mut self) {
        while self.has_room() {
            let Some(converted) = self.reader.next(true) else {
                self.reader.following.read_ahead();
                break;
            };
            for (offset, frame) in converted.frames {
                self.pack(offset, frame);
            }
        }
        if !self.has_room() {
            // Other readers need the turn at the log while this one waits.
            self.reader.following.give_up_turn();
        }
        let is_final = matches!(*self.ending.borrow(), Ending::Final(_));
        if self.open.as_ref().is_some_and(|open| is_final || open.begun.elapsed() >= FILL_MAX) {
            self.parcels.extend(self.open.take());
        }
    }

    fn pack(&mut self, offset: u64, frame: frame::Frame) {
        let bytes_max = self.side.parcel_bytes();
        let is_full = |open: &mut Parcel| !open.has_room(frame.payload.len(), bytes_max);
        self.parcels.extend(self.open.take_if(is_full));
        let before = self.open.as_ref().map_or(0, |open| open.bytes);
        match &mut self.open {
            Some(open) => open.push(offset, frame),
            None => self.open = Some(Parcel::new(offset, frame)),
        }
        self.bytes += self.open.as_ref().map_or(0, |open| open.bytes) - before;
        if bytes_max == 0 {
            self.parcels.extend(self.open.take());
        }
    }

    /// Sends what the other side has room for.
    async fn send(&mut self) -> Result<(), Ended> {
        while self.sent < self.parcels.len() && self.side.has_room() {
            match self.side.send(&self.parcels[self.sent]).await {
                Ok(()) => self.sent += 1,
                Err(trouble) => return self.settle(trouble).await,
            }
        }
        Ok(())
    }

    /// The oldest parcel is stored.
    fn acknowledge(&mut self, sequence: u64) {
        let Some(parcel) = self.parcels.pop_front() else { return };
        self.sent -= 1;
        self.bytes -= parcel.bytes;
        (self.doubts, self.moved_at) = (0, Instant::now());
        self.stored = Some(parcel.last() + 1);
        self.reader.status.forwarded(self.priority, parcel.bytes);
        self.move_to(parcel.last() + 1, sequence);
    }

    fn move_to(&mut self, next_offset: u64, sequence: u64) {
        if let Some(keeper) = self.reader.keeper.as_mut().filter(|_| sequence > 0) {
            keeper.stored_at(sequence);
        }
        self.reader.moved_to(Position::at(next_offset));
    }

    /// Moves the cursor over frames that the selection leaves out.
    fn pass(&mut self) {
        let position = self.reader.position();
        let at = self.reader.keeper.as_ref().map_or(0, |keeper| keeper.position().next_offset);
        if self.parcels.is_empty() && self.open.is_none() {
            self.moved_at = Instant::now();
            if position > at {
                self.move_to(position, 0);
            }
        }
    }

    /// Notes the oldest frame that waits.
    fn note_waiting(&self) {
        let oldest = self.parcels.front().or(self.open.as_ref()).map(Parcel::received_ns);
        // While nothing is read, the frame that was noted last may be the one that is read next.
        if oldest.is_some() || self.reader.position() >= self.history.watermark() {
            self.reader.status.waits_since(self.priority, oldest);
        }
    }

    /// After a doubt, goes on where the other side stands. Parcels that are not stored are sent again as they were.
    async fn settle(&mut self, trouble: Trouble) -> Result<(), Ended> {
        let lost = |why: String| Ended::Lost(io::Error::other(why));
        if let Trouble::Over(why) = trouble {
            return Err(lost(why));
        }
        self.doubts += 1;
        if self.doubts > DOUBTS_MAX {
            return Err(lost(
                "another program writes to the subjects of this forwarder: change subject".to_owned(),
            ));
        }
        let stand = match self.side.resume().await {
            Ok(stand) => stand,
            Err(Trouble::Over(why)) => return Err(lost(why)),
            Err(Trouble::Doubt) => {
                return Err(lost("the other side does not say where it stands".to_owned()));
            }
        };
        let in_flight = self.parcels.iter().take(self.sent);
        let mut places = std::iter::once(self.stored).chain(in_flight.map(|parcel| Some(parcel.last() + 1)));
        let Some(stored) = places.position(|place| place == stand.next_offset) else {
            return Err(lost(format!(
                "the other side stands at {:?}, and {:?} was expected: the forwarder goes on where it stands",
                stand.next_offset, self.stored
            )));
        };
        for _ in 0..stored {
            self.acknowledge(stand.sequence);
        }
        self.sent = 0;
        Ok(())
    }

    /// In a drain, ends the lane when the other side has everything, or has stopped storing.
    fn judge_end(&self) -> Option<Ended> {
        let ending = self.ending.borrow();
        if !matches!(*ending, Ending::Final(_)) {
            return None;
        }
        if self.reader.is_served(&ending) && self.parcels.is_empty() && self.open.is_none() {
            return Some(Ended::Drained);
        }
        (self.moved_at.elapsed() >= DRAIN_STALL_MAX).then_some(Ended::Stalled)
    }

    /// When the loop must run even if nothing happens.
    fn next_due(&self, now: Instant) -> Instant {
        let stalled_at =
            matches!(*self.ending.borrow(), Ending::Final(_)).then(|| self.moved_at + DRAIN_STALL_MAX);
        let full_at = self.open.as_ref().map(|open| open.begun + FILL_MAX);
        let save_at = self.reader.keeper.as_ref().map(Keeper::next_at);
        let idle = now + Duration::from_secs(60);
        [stalled_at, full_at, save_at].into_iter().flatten().fold(idle, Instant::min)
    }
}
