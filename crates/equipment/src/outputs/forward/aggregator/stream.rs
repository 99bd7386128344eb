//! One stream in one of its epochs, on its connections to the other aggregator.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::ledger::Ticket;
use super::line::{Line, Urgent};
use super::lock;
use actor::ExitReason;
use client::{Backoff, Conversation, End, Kept, Lane, Refusal, Script, SourceError, WRITE_BYTES, converse};
use frame::{Frame, FrameFlags, FramePriority, Lanes, Origin};
use support::logging::{Kind, by_peer};
use wire::data::FRAME_HEADER_BYTES;
use wire::{Ack, Bye, ErrorCode, FrameMessage, Welcome, frame_cost};

/// A connection without frames ends after this time.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Longest wait before the next attempt, while the line is down. An emergency waits no longer for a line that is back.
const LOST_WAIT_MAX: Duration = Duration::from_millis(500);
/// Longest wait before the next attempt after a refusal.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the last answers when the forwarder ends.
const LINGER: Duration = Duration::from_millis(500);

/// A frame on its way.
pub(super) struct Item {
    sequence: u64,
    flags: FrameFlags,
    ert_ns: i64,
    payload: Bytes,
    ticket: Ticket,
}

impl Item {
    /// `frame` on its way, which settles `ticket`.
    pub(super) fn new(frame: &Frame, ticket: Ticket) -> Self {
        let Frame { sequence, flags, ert_ns, ref payload, .. } = *frame;
        Self { sequence, flags, ert_ns, payload: payload.clone(), ticket }
    }

    fn body_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }
}

impl Kept for Item {
    fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// A stream, as the lanes see it.
pub(super) struct Stream {
    /// The stream, and its epoch at the other aggregator.
    origin: Origin,
    /// Both lanes share one sequence counter.
    shares_sequence: bool,
    line: Arc<Line>,
    queue: Mutex<Queue>,
    /// Notified when a frame has come.
    came: Notify,
}

/// Frames that the connection has not taken over.
#[derive(Default)]
struct Queue {
    lanes: Lanes<VecDeque<Item>>,
    /// The stream takes no more frames. Another one takes its place.
    is_closed: bool,
}

impl Stream {
    /// A stream without frames, which [`run`] sends over `line`.
    pub(super) fn new(origin: Origin, shares_sequence: bool, line: Arc<Line>) -> Self {
        Self { origin, shares_sequence, line, queue: Mutex::default(), came: Notify::new() }
    }

    /// Takes a frame. Returns it if the stream is closed.
    pub(super) fn push(&self, lane: FramePriority, item: Item) -> Result<(), Item> {
        let mut queue = lock(&self.queue);
        if queue.is_closed {
            return Err(item);
        }
        queue.lanes[lane].push_back(item);
        drop(queue);
        self.came.notify_one();
        Ok(())
    }

    /// Whether the stream takes frames.
    pub(super) fn is_open(&self) -> bool {
        !lock(&self.queue).is_closed
    }

    fn has_emergency(&self) -> bool {
        !lock(&self.queue).lanes[FramePriority::Emergency].is_empty()
    }

    /// Closes the stream unless frames wait. Returns whether it is closed.
    fn close_if_empty(&self) -> bool {
        let mut queue = lock(&self.queue);
        let is_empty = queue.lanes.values().all(VecDeque::is_empty);
        queue.is_closed |= is_empty;
        is_empty
    }
}

/// Sends the frames of `stream` until it has had none for a while, or the forwarder ends.
pub(super) async fn run(stream: Arc<Stream>) -> Result<(), ExitReason> {
    let line = Arc::clone(&stream.line);
    let mut sender = Sender::new(stream);
    let (mut lost, mut refused) = (Backoff::new(LOST_WAIT_MAX), Backoff::new(REFUSED_WAIT_MAX));
    loop {
        let place = tokio::select! {
            place = line.place() => place,
            () = closing(sender.turns.clone()) => return Ok(()),
        };
        let ended = sender.connect().await;
        if sender.made_progress {
            (lost, refused) = (Backoff::new(LOST_WAIT_MAX), Backoff::new(REFUSED_WAIT_MAX));
        }
        let (why, wait) = match ended {
            Ok(End::Complete) if sender.stream.close_if_empty() => return Ok(()),
            Ok(End::Complete) => continue,
            Ok(End::Lost { trouble, retry_after }) => (trouble, lost.next(retry_after)),
            Err(error) => (explain(&error), refused.next(Duration::ZERO)),
        };
        sender.note(&why);
        drop(place);
        tokio::select! {
            () = sleep(wait) => {}
            () = closing(sender.turns.clone()) => return Ok(()),
        }
    }
}

/// Completes when the forwarder ends.
async fn closing(mut turns: watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = turns.wait_for(|is_closing| *is_closing).await;
}

/// A sentence for an error that another attempt does not mend by itself.
fn explain(error: &SourceError) -> String {
    let way_out = match error {
        SourceError::Refused { code, .. } if *code == ErrorCode::Fenced as u16 => {
            "; update the other aggregator: it does not take frames of earlier epochs from a forwarder"
        }
        SourceError::Refused { code, .. } if *code == ErrorCode::Unauthorized as u16 => "; check token_file",
        SourceError::Refused { code, .. } if *code == ErrorCode::Forbidden as u16 => {
            "; let the credential of this daemon speak for the source there, or leave the source out with select"
        }
        SourceError::Refused { code, .. } if *code == ErrorCode::TakenOver as u16 => {
            "; another program sends this stream to the other aggregator"
        }
        SourceError::FrameTooLarge { .. } => "; raise ingest.max_message there",
        _ => "",
    };
    format!("{error}{way_out}")
}

/// What one connection after the other sends.
struct Sender {
    stream: Arc<Stream>,
    turns: watch::Receiver<bool>,
    lanes: Lanes<Lane<Item>>,
    /// Routine frames written on this connection: sequence, cost, and when.
    written: VecDeque<(u64, u64, Instant)>,
    /// Held while an emergency waits for its turn on this connection.
    urgent: Option<Urgent>,
    message_bytes_max: usize,
    /// When a frame last came or was settled.
    active_at: Instant,
    /// When the forwarder was seen to end.
    closing_at: Option<Instant>,
    made_progress: bool,
}

impl Sender {
    fn new(stream: Arc<Stream>) -> Self {
        Self {
            turns: stream.line.turns(),
            stream,
            lanes: Lanes::default(),
            written: VecDeque::new(),
            urgent: None,
            message_bytes_max: usize::MAX,
            active_at: Instant::now(),
            closing_at: None,
            made_progress: false,
        }
    }

    /// Makes a connection and sends over it until it ends.
    async fn connect(&mut self) -> Result<End, SourceError> {
        let line = Arc::clone(&self.stream.line);
        self.made_progress = false;
        self.hold_routine();
        let opened = tokio::select! {
            opened = line.open(&self.stream.origin, self.stream.shares_sequence) => opened,
            () = closing(self.turns.clone()) => Err(Refusal::Lost(End::lost("the forwarder ends"))),
        };
        let (socket, welcome, rest) = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                self.urgent = None;
                return match refusal {
                    Refusal::Lost(end) => Ok(end),
                    Refusal::Final(error) => Err(error),
                };
            }
        };
        line.opened();
        let ended = match Conversation::new(&mut *self, &welcome, Instant::now()) {
            Ok(mut conversation) => converse(socket, rest, &mut conversation).await,
            Err(error) => Err(error),
        };
        self.forget_written();
        self.urgent = None;
        line.ended(!matches!(ended, Ok(End::Complete)));
        match ended {
            // A later epoch of the stream has come to the other aggregator. The next connection is taken beside it.
            Err(SourceError::Refused { code, text, .. }) if code == ErrorCode::Fenced as u16 => {
                Ok(End::lost(text))
            }
            ended => ended,
        }
    }

    /// Keeps routine frames of all streams back while this one has an emergency to send.
    fn hold_routine(&mut self) {
        let has_emergency =
            self.lanes[FramePriority::Emergency].next().is_some() || self.stream.has_emergency();
        if !has_emergency {
            self.urgent = None;
        } else if self.urgent.is_none() {
            self.urgent = Some(self.stream.line.urgent());
        }
    }

    fn note(&self, why: &str) {
        let Self { stream, .. } = self;
        let why = format!("stream {}: {why}", stream.origin.stream);
        by_peer!(Kind::Linked, WARN, aggregator = stream.line.address(), "{why}");
        stream.line.status.note_trouble(why);
    }

    /// Takes over the frames that have come.
    fn take_new(&mut self, now: Instant) {
        let new = std::mem::take(&mut lock(&self.stream.queue).lanes);
        for (priority, items) in FramePriority::ALL.into_iter().zip(new.into_values()) {
            let lane = &mut self.lanes[priority];
            for item in items {
                self.active_at = now;
                if item.sequence < lane.durable_next() {
                    item.ticket.settle();
                } else {
                    lane.keep(item);
                }
            }
        }
    }

    /// Writes the next frame of a lane into `out`. Returns false if none may go.
    fn put(
        &mut self,
        priority: FramePriority,
        out: &mut BytesMut,
        now: Instant,
    ) -> Result<bool, SourceError> {
        let lane = &mut self.lanes[priority];
        let Some(item) = lane.next() else { return Ok(false) };
        let body_bytes = item.body_bytes();
        if body_bytes > self.message_bytes_max {
            let max_message_bytes = u32::try_from(self.message_bytes_max).unwrap_or(u32::MAX);
            return Err(SourceError::FrameTooLarge { body_bytes, max_message_bytes });
        }
        let cost = frame_cost(body_bytes);
        let is_routine = priority == FramePriority::Routine;
        if !lane.has_credit(cost) || is_routine && !self.stream.line.begin(cost) {
            return Ok(false);
        }
        let &Item { sequence, flags, ert_ns, .. } = item;
        FrameMessage::new(priority, flags, sequence, ert_ns, item.payload.clone()).encode(out);
        lane.write(sequence, cost);
        if is_routine {
            self.written.push_back((sequence, cost, now));
        }
        Ok(true)
    }

    /// The frames of a lane below `durable_next` are on the disk of the other aggregator.
    fn settle(
        &mut self,
        priority: FramePriority,
        durable_next: u64,
        now: Instant,
    ) -> Result<bool, SourceError> {
        let mut count = 0;
        self.lanes[priority].settle(priority, durable_next, |item| {
            item.ticket.settle();
            count += 1;
        })?;
        if priority == FramePriority::Routine {
            let (mut cost, mut took) = (0, None);
            while let Some((_, of_one, at)) =
                self.written.pop_front_if(|(sequence, ..)| *sequence < durable_next)
            {
                (cost, took) = (cost + of_one, Some(now - at));
            }
            if cost > 0 {
                self.stream.line.settle(cost, took, now);
            }
        }
        if count > 0 {
            (self.active_at, self.made_progress) = (now, true);
        }
        Ok(count > 0)
    }

    /// The connection has ended, and nothing is under way on it.
    fn forget_written(&mut self) {
        let cost = self.written.drain(..).map(|(_, cost, _)| cost).sum();
        self.stream.line.settle(cost, None, Instant::now());
    }

    fn kept(&self) -> usize {
        self.lanes.values().map(Lane::kept_frames).sum()
    }

    fn is_closing(&self) -> bool {
        *self.turns.borrow()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.forget_written();
        lock(&self.stream.queue).is_closed = true;
    }
}

impl Script for Sender {
    fn welcome(&mut self, welcome: &Welcome) -> Result<(), SourceError> {
        self.message_bytes_max = welcome.max_message_bytes as usize;
        for (priority, lane) in FramePriority::ALL.into_iter().zip(self.lanes.values_mut()) {
            let resume_next = welcome.resume_next[priority];
            if resume_next < lane.durable_next() {
                let Origin { stream, epoch } = &self.stream.origin;
                tracing::error!(
                    %stream, epoch, lane = %priority, resume_next, durable_next = lane.durable_next(),
                    "the other aggregator has lost frames that it had acknowledged; to send them again, stop this daemon and \
                     remove the cursor of the output"
                );
            }
            lane.open(resume_next);
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut BytesMut, now: Instant) -> Result<(), SourceError> {
        self.take_new(now);
        self.hold_routine();
        while out.len() < WRITE_BYTES && self.put(FramePriority::Emergency, out, now)? {}
        self.hold_routine();
        while out.len() < WRITE_BYTES && self.put(FramePriority::Routine, out, now)? {}
        Ok(())
    }

    fn bye(&self) -> Option<Bye> {
        let is_due = self.is_closing() || self.stream.line.is_short() || self.active_at.elapsed() >= IDLE_MAX;
        (is_due && self.kept() == 0).then(|| Bye { next: self.lanes.each_ref().map(Lane::sent_next) })
    }

    fn acknowledge(&mut self, ack: &Ack, now: Instant) -> Result<bool, SourceError> {
        self.lanes[ack.priority].credit(ack);
        self.settle(ack.priority, ack.durable_next, now)
    }

    fn finish(&mut self, bye: Bye, now: Instant) -> Result<bool, SourceError> {
        let emergency = self.settle(FramePriority::Emergency, bye.next.emergency, now)?;
        Ok(emergency | self.settle(FramePriority::Routine, bye.next.routine, now)?)
    }

    fn is_settled(&self) -> bool {
        self.kept() == 0
    }

    fn next_due(&self, now: Instant) -> Option<Instant> {
        Some(self.active_at + IDLE_MAX).filter(|idle_at| *idle_at > now)
    }

    fn gives_up_at(&self) -> Option<Instant> {
        self.closing_at.map(|at| at + LINGER)
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = self.stream.came.notified() => {}
            changed = self.turns.changed() => if changed.is_err() { std::future::pending().await },
        }
        if self.is_closing() {
            self.closing_at.get_or_insert_with(Instant::now);
        }
    }
}
