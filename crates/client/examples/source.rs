//! A source: sends 100 frames to a daemon and ends when the daemon has made all of them durable.
//!
//! ```sh
//! cargo run -p client --example source -- 127.0.0.1:7480
//! ```

use std::error::Error;

use bytes::{Bytes, BytesMut};
use client::{
    BACKOFF_MAX, Backoff, Conversation, End, Kept, Lane, Refusal, Script, SourceError, WRITE_BYTES,
};
use frame::{FrameFlags, FramePriority, Lanes, SourceKind, Station, StreamKey, unix_now_ns};
use tokio::time::{Instant, sleep};
use wire::{Ack, Bye, FrameMessage, Hello, Welcome};

/// Every tenth frame is an emergency.
const COUNTS: Lanes<u64> = Lanes::new(10, 90);

#[tokio::main]
#[allow(clippy::print_stdout, reason = "the output of the program")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: source HOST:PORT")?;
    let durable = run(&address).await?;
    println!("durable: {} emergency frames, {} routine frames", durable.emergency, durable.routine);
    Ok(())
}

/// Sends the frames to `address` and returns the durable positions. Connects again when a connection is lost.
///
/// # Errors
/// When the server refuses the source for good or breaks the protocol.
pub async fn run(address: &str) -> Result<Lanes<u64>, SourceError> {
    let stream = StreamKey { source_id: 7, source_kind: SourceKind::LiveUplink, station: Station::default() };
    // The sequences start at 0, so each run needs an epoch of its own.
    let hello = Hello::new(stream, unix_now_ns().unsigned_abs());
    let mut frames = Frames::new();
    let mut backoff = Backoff::new(BACKOFF_MAX);
    loop {
        let end = match client::open(address, None, &hello).await {
            Ok((socket, welcome, incoming)) => {
                let mut conversation = Conversation::new(&mut frames, &welcome, Instant::now())?;
                client::converse(socket, incoming, &mut conversation).await?
            }
            Err(Refusal::Lost(end)) => end,
            Err(Refusal::Final(error)) => return Err(error),
        };
        match end {
            End::Complete => return Ok(frames.lanes.each_ref().map(Lane::durable_next)),
            End::Lost { retry_after, .. } => sleep(backoff.next(retry_after)).await,
        }
    }
}

/// A frame that is kept until it is durable.
struct Unacknowledged(FrameMessage);

impl Kept for Unacknowledged {
    fn sequence(&self) -> u64 {
        self.0.sequence
    }
}

/// The frames of this source, and what the server has said about them.
struct Frames {
    lanes: Lanes<Lane<Unacknowledged>>,
}

impl Frames {
    fn new() -> Self {
        let mut lanes = Lanes::<Lane<Unacknowledged>>::default();
        for (priority, count) in COUNTS {
            for sequence in 0..count {
                let payload = Bytes::from(format!("{priority} frame {sequence}"));
                let flags = FrameFlags::default();
                let frame = FrameMessage::new(priority, flags, sequence, unix_now_ns(), payload);
                lanes[priority].keep(Unacknowledged(frame));
            }
        }
        Self { lanes }
    }

    fn settle(&mut self, priority: FramePriority, durable_next: u64) -> Result<bool, SourceError> {
        let mut is_progress = false;
        self.lanes[priority].settle(priority, durable_next, |_| is_progress = true)?;
        Ok(is_progress)
    }
}

impl Script for Frames {
    fn welcome(&mut self, welcome: &Welcome) -> Result<(), SourceError> {
        for (priority, resume_next) in welcome.resume_next {
            let lane = &mut self.lanes[priority];
            let (durable_next, sent_next) = (lane.durable_next(), lane.sent_next());
            if resume_next < durable_next {
                return Err(SourceError::PromiseBroken { lane: priority, resume_next, durable_next });
            }
            if resume_next > sent_next {
                return Err(SourceError::StateLost { lane: priority, resume_next, sent_next });
            }
            lane.open(resume_next);
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut BytesMut, _now: Instant) -> Result<(), SourceError> {
        for lane in self.lanes.values_mut() {
            while out.len() < WRITE_BYTES
                && let Some(Unacknowledged(frame)) = lane.next()
                && lane.has_credit(frame.cost)
            {
                frame.encode(out);
                let (sequence, cost) = (frame.sequence, frame.cost);
                lane.write(sequence, cost);
            }
        }
        Ok(())
    }

    fn bye(&self) -> Option<Bye> {
        let is_written = self.lanes.values().all(Lane::is_written);
        is_written.then(|| Bye { next: self.lanes.each_ref().map(Lane::sent_next) })
    }

    fn acknowledge(&mut self, ack: &Ack, _now: Instant) -> Result<bool, SourceError> {
        self.lanes[ack.priority].credit(ack);
        self.settle(ack.priority, ack.durable_next)
    }

    fn finish(&mut self, bye: Bye, _now: Instant) -> Result<bool, SourceError> {
        let mut is_progress = false;
        for (priority, durable_next) in bye.next {
            is_progress |= self.settle(priority, durable_next)?;
        }
        Ok(is_progress)
    }

    fn is_settled(&self) -> bool {
        self.lanes.values().all(|lane| lane.kept_frames() == 0)
    }

    /// Only credit holds frames back, and never the time.
    fn next_due(&self, _now: Instant) -> Option<Instant> {
        None
    }

    fn gives_up_at(&self) -> Option<Instant> {
        None
    }

    async fn changed(&mut self) {
        std::future::pending().await
    }
}
