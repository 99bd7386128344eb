//! What a stream sends: its frames in two lanes, kept until they are durable.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::control::{Pause, stopped};
use archive::StoredFrame;
use client::{Kept, Lane, Script, SourceError, WRITE_BYTES};
use frame::{FrameFlags, FramePriority, Lanes};
use wire::data::FRAME_HEADER_BYTES;
use wire::{Ack, Bye, FrameMessage, Welcome, frame_cost};

/// At most this many orders are taken at a time.
const ORDERS_AT_ONCE: usize = 256;

/// An order of the scheduler to a stream. The stream executes orders in sequence.
#[derive(Debug)]
pub(super) enum Order {
    /// Send this frame.
    Frame(Frame),
    /// The next frames belong to the next epoch.
    NextEpoch,
    /// Skip this many epochs, which an earlier run has used. Comes before the first frame.
    SkipEpochs(u64),
    /// Close the connection. Later frames need a new one.
    Rest,
}

/// A frame to be sent. It holds its share of the memory budget until it is dropped.
#[derive(Debug)]
pub(super) struct Frame {
    offset: u64,
    priority: FramePriority,
    flags: FrameFlags,
    sequence: u64,
    ert_ns: i64,
    payload: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Frame {
    pub(super) fn new(stored: StoredFrame, room: OwnedSemaphorePermit) -> Self {
        let StoredFrame { offset, frame } = stored;
        let frame::Frame { priority, flags, sequence, ert_ns, payload, .. } = frame;
        Self { offset, priority, flags, sequence, ert_ns, payload, _room: room }
    }
}

impl Kept for Frame {
    fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// Why a connection must end with BYE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    NextEpoch,
    Rest,
    /// No more frames come.
    End,
}

/// Sends the frames of one stream over all its connections; see the module.
pub(super) struct ReplaySender {
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    stops: watch::Receiver<bool>,
    pauses: watch::Receiver<Pause>,
    lanes: Lanes<Lane<Frame>>,
    finish: Option<Finish>,
    epoch: u64,
    /// The epoch of this stream in the daemon, if an earlier run reached a higher one. All frames of lower epochs are
    /// there.
    behind: Option<u64>,
    /// Frames that were not sent for that reason. They are there only if this run reaches that epoch as well.
    passed_over: PassedOver,
    message_bytes_max: u32,
    stopped_at: Option<Instant>,
    pub(super) books: Books,
}

/// Frames that count as acknowledged because the daemon is in a later epoch.
#[derive(Debug, Default)]
struct PassedOver {
    count: u64,
    lowest_offset: Option<u64>,
}

impl PassedOver {
    fn note(&mut self, frame: &Frame) {
        self.count += 1;
        self.lowest_offset = Some(self.lowest_offset.map_or(frame.offset, |lowest| lowest.min(frame.offset)));
    }
}

/// Counts of a stream's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) frames: u64,
    pub(super) acked: u64,
    /// Epochs after the first.
    pub(super) turns: u64,
    /// Lowest offset of the unacknowledged frames that were dropped.
    pub(super) missing: Option<u64>,
    /// Whether the daemon had less than it had acknowledged.
    pub(super) forgot: bool,
}

impl Books {
    fn miss(&mut self, frame: &Frame) {
        self.missing = Some(self.missing.map_or(frame.offset, |missing| missing.min(frame.offset)));
    }
}

impl ReplaySender {
    pub(super) fn new(shared: Arc<Shared>, orders: mpsc::Receiver<Order>) -> Self {
        Self {
            stops: shared.control.stops(),
            pauses: shared.control.pauses(),
            epoch: shared.epoch,
            shared,
            orders,
            lanes: Lanes::default(),
            finish: None,
            behind: None,
            passed_over: PassedOver::default(),
            message_bytes_max: u32::MAX,
            stopped_at: None,
            books: Books::default(),
        }
    }

    /// The epoch in which frames are sent.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number of kept frames.
    pub(super) fn kept(&self) -> usize {
        self.lanes.values().map(Lane::kept_frames).sum()
    }

    /// Waits until a connection is needed. Returns false if none will be needed. Cancel safe.
    pub(super) async fn wanted(&mut self) -> bool {
        loop {
            if self.has_given_up(Instant::now()) {
                return false;
            }
            if self.kept() > 0 {
                return true;
            }
            match self.finish {
                Some(Finish::End) => return false,
                Some(_) => self.go_on(),
                None => self.changed().await,
            }
        }
    }

    /// Continues after a connection that ended with everything durable, or if none was needed.
    pub(super) fn go_on(&mut self) {
        match self.finish {
            Some(Finish::NextEpoch) => {
                self.epoch += 1;
                self.books.turns += 1;
                if self.behind.is_some_and(|behind| self.epoch >= behind) {
                    self.passed_over = PassedOver::default();
                }
                self.lanes = Lanes::default();
                self.finish = None;
            }
            Some(Finish::Rest) => self.finish = None,
            Some(Finish::End) | None => {}
        }
    }

    /// Skips frames that the daemon has: it is in `epoch` of this stream, which an earlier run had reached.
    pub(super) fn catch_up(&mut self, epoch: u64) {
        self.behind = Some(epoch);
        for priority in FramePriority::ALL {
            let lane = &mut self.lanes[priority];
            let (books, passed_over) = (&mut self.books, &mut self.passed_over);
            let mut count = 0;
            lane.drop_unsent(|frame| {
                passed_over.note(&frame);
                count += 1;
            });
            books.acked += count;
            self.shared.progress.acked.fetch_add(count, Relaxed);
            self.shared.progress.already.fetch_add(count, Relaxed);
        }
    }

    /// The epoch that an earlier run had reached, if this run has not reached it yet.
    pub(super) fn behind(&self) -> Option<u64> {
        self.behind.filter(|behind| self.epoch < *behind && self.stopped_at.is_none())
    }

    /// Corrects the counts at the end of the run. If this run did not reach the daemon's epoch, the skipped frames
    /// count as not acknowledged.
    pub(super) fn take_back(&mut self) {
        let PassedOver { count, lowest_offset } = std::mem::take(&mut self.passed_over);
        self.books.acked -= count;
        self.books.missing = self.books.missing.into_iter().chain(lowest_offset).min();
        self.shared.progress.acked.fetch_sub(count, Relaxed);
        self.shared.progress.already.fetch_sub(count, Relaxed);
    }

    /// Whether nothing was sent in the current epoch yet and `epoch` is later.
    pub(super) fn is_fresh(&self, epoch: u64) -> bool {
        epoch > self.epoch && self.lanes.values().all(|lane| lane.known_next() == 0)
    }

    /// Drops all kept frames and all further orders, so that the scheduler does not wait for this stream. Cancel safe.
    pub(super) async fn discard(&mut self) {
        self.drop_kept();
        while let Some(order) = self.orders.recv().await {
            self.miss(order);
        }
    }

    /// Drops all kept frames.
    pub(super) fn drop_kept(&mut self) {
        for lane in self.lanes.values_mut() {
            let books = &mut self.books;
            lane.drain(|frame| books.miss(&frame));
        }
    }

    fn miss(&mut self, order: Order) {
        if let Order::Frame(frame) = order {
            self.books.frames += 1;
            self.books.miss(&frame);
        }
    }

    /// Waits until the stream gives up. After a stop this is at once if all sent frames are acknowledged, else when the
    /// linger time is over. Cancel safe.
    pub(super) async fn given_up(&mut self) {
        stopped(&mut self.stops).await;
        self.stop();
        if self.kept() > 0
            && let Some(at) = self.gives_up_at()
        {
            sleep_until(at).await;
        }
    }

    pub(super) fn has_given_up(&self, now: Instant) -> bool {
        self.gives_up_at().is_some_and(|at| at <= now)
    }

    /// Stops sending new frames.
    fn stop(&mut self) {
        if self.stopped_at.is_some() {
            return;
        }
        self.stopped_at = Some(Instant::now());
        for lane in self.lanes.values_mut() {
            let books = &mut self.books;
            lane.drop_unsent(|frame| books.miss(&frame));
        }
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            self.miss(order);
        }
        self.finish = Some(Finish::End);
    }

    fn take(&mut self, order: Option<Order>) {
        match order {
            Some(Order::Frame(frame)) => self.take_frame(frame),
            Some(Order::SkipEpochs(count)) => {
                self.epoch += count;
                self.books.turns += count;
            }
            Some(Order::NextEpoch) => self.finish = Some(Finish::NextEpoch),
            Some(Order::Rest) => self.finish = Some(Finish::Rest),
            None => self.finish = Some(Finish::End),
        }
    }

    fn take_frame(&mut self, frame: Frame) {
        self.books.frames += 1;
        let is_behind = self.behind.is_some_and(|behind| self.epoch < behind);
        let lane = &mut self.lanes[frame.priority];
        let is_durable = frame.sequence < lane.durable_next();
        if is_behind {
            self.passed_over.note(&frame);
        }
        if is_durable || is_behind {
            self.books.acked += 1;
            self.shared.progress.acked.fetch_add(1, Relaxed);
            self.shared.progress.already.fetch_add(1, Relaxed);
        } else if lane.keep(frame) {
            self.shared.progress.already.fetch_add(1, Relaxed);
        }
    }

    fn settle(&mut self, priority: FramePriority, durable_next: u64) -> Result<bool, SourceError> {
        let mut count = 0;
        self.lanes[priority].settle(priority, durable_next, |_| count += 1)?;
        self.books.acked += count;
        self.shared.progress.acked.fetch_add(count, Relaxed);
        Ok(count > 0)
    }

    /// Writes the next frame of a lane into `out`. Returns false if no frame may be sent.
    fn put_next(&mut self, priority: FramePriority, out: &mut BytesMut) -> Result<bool, SourceError> {
        let lane = &mut self.lanes[priority];
        let Some(frame) = lane.next() else {
            return Ok(false);
        };
        let body_bytes = FRAME_HEADER_BYTES + frame.payload.len();
        if u32::try_from(body_bytes).map_or(true, |bytes| bytes > self.message_bytes_max) {
            let max_message_bytes = self.message_bytes_max;
            return Err(SourceError::FrameTooLarge { body_bytes, max_message_bytes });
        }
        let cost = frame_cost(body_bytes);
        if !lane.has_credit(cost) {
            return Ok(false);
        }
        let &Frame { flags, sequence, ert_ns, .. } = frame;
        FrameMessage::new(priority, flags, sequence, ert_ns, frame.payload.clone()).encode(out);
        let progress = &self.shared.progress;
        let counter = if sequence < lane.sent_next() { &progress.resent } else { &progress.sent };
        counter.fetch_add(1, Relaxed);
        lane.write(sequence, cost);
        Ok(true)
    }
}

impl Script for ReplaySender {
    fn welcome(&mut self, welcome: &Welcome) -> Result<(), SourceError> {
        self.message_bytes_max = welcome.max_message_bytes;
        for priority in FramePriority::ALL {
            let resume_next = welcome.resume_next[priority];
            let lane = &mut self.lanes[priority];
            if resume_next > lane.known_next() && !self.shared.goes_on {
                let sent_next = lane.known_next();
                return Err(SourceError::StateLost { lane: priority, resume_next, sent_next });
            }
            // A daemon that does not store replays starts empty after each restart. The frames that it acknowledged are
            // in the recording. The kept frames are sent again.
            self.books.forgot |= resume_next < lane.durable_next();
            let already = lane.open(resume_next);
            self.shared.progress.already.fetch_add(already, Relaxed);
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut BytesMut, _now: Instant) -> Result<(), SourceError> {
        if self.stopped_at.is_none() && self.pauses.borrow().is_on() {
            return Ok(());
        }
        for priority in FramePriority::ALL {
            while out.len() < WRITE_BYTES && self.put_next(priority, out)? {}
        }
        Ok(())
    }

    fn bye(&self) -> Option<Bye> {
        let is_over = self.finish.is_some() && self.lanes.values().all(Lane::is_written);
        is_over.then(|| Bye { next: self.lanes.each_ref().map(Lane::known_next) })
    }

    fn acknowledge(&mut self, ack: &Ack, _now: Instant) -> Result<bool, SourceError> {
        let duplicates = self.lanes[ack.priority].credit(ack);
        self.shared.progress.duplicates.fetch_add(u64::from(duplicates), Relaxed);
        self.settle(ack.priority, ack.durable_next)
    }

    fn finish(&mut self, bye: Bye, _now: Instant) -> Result<bool, SourceError> {
        let mut progress = false;
        for priority in FramePriority::ALL {
            progress |= self.settle(priority, bye.next[priority])?;
        }
        Ok(progress)
    }

    fn is_settled(&self) -> bool {
        self.kept() == 0
    }

    fn next_due(&self, _now: Instant) -> Option<Instant> {
        None
    }

    fn gives_up_at(&self) -> Option<Instant> {
        self.stopped_at.map(|at| at + self.shared.linger)
    }

    async fn changed(&mut self) {
        let is_stopped = self.stopped_at.is_some();
        tokio::select! {
            order = self.orders.recv(), if self.finish.is_none() => {
                self.take(order);
                // Takes all orders that are ready, so that their frames go in one write.
                for _ in 1..ORDERS_AT_ONCE {
                    if self.finish.is_some() {
                        break;
                    }
                    let Ok(order) = self.orders.try_recv() else { break };
                    self.take(Some(order));
                }
            }
            _ = self.pauses.changed(), if !is_stopped => {}
            () = stopped(&mut self.stops), if !is_stopped => self.stop(),
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
