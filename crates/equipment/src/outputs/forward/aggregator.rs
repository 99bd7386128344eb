//! The other side of a forwarder that is another telemetry aggregator.
//!
//! Each stream has a connection of its own in each of its epochs, over which it is a source like any other
//! ([`client`]). The other aggregator says in WELCOME where to go on, so it has each frame once. Both lanes hand their frames to
//! the same connections. `line` is what all connections share, `stream` one of them, `ledger` the frames of a lane that
//! are under way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::parcel::Parcel;
use super::{Side, Stand, Trouble, lag, lane};
use crate::outputs::Context;
use crate::outputs::reader::Part;
use crate::outputs::status::OutputStatus;
use actor::{ActorHandle, Capacity, Mailbox, spawn};
use config::{AggregatorTransport, Link, Output};
use frame::{ANONYMOUS_EPOCH_MIN, FramePriority, Origin, Station};
use ingest::StreamTable;
use ledger::Ledger;
use line::Line;
use stream::{Item, Stream};

mod ledger;
mod line;
mod stream;

/// A task of a stream receives no messages.
const CAPACITY: Capacity = Capacity { urgent: 1, routine: 1 };
/// Longest wait for the connections to end, once nothing is to be sent.
const PARTING_MAX: Duration = Duration::from_secs(1);

/// A lane of a forwarder into another aggregator.
pub(in crate::outputs) struct AggregatorSide {
    /// The lane.
    lane: FramePriority,
    /// The connections, which both lanes share.
    hub: Arc<Hub>,
    /// The frames of the lane that are under way.
    ledger: Arc<Ledger>,
}

/// The connections of a forwarder.
struct Hub {
    /// What all connections share.
    line: Arc<Line>,
    /// The streams.
    streams: Mutex<HashMap<Arc<Origin>, Running>>,
    /// The streams of this daemon, which know how their sources count.
    known: Arc<StreamTable>,
    /// The links of the configuration. Their streams have no epoch of their own.
    links: Vec<Link>,
    /// The id of the log.
    log_id: u64,
    /// Lanes that go on.
    lanes: AtomicUsize,
}

/// A stream that has frames under way or a connection.
struct Running {
    stream: Arc<Stream>,
    /// Dropping it aborts the task.
    task: ActorHandle,
}

/// Makes both lanes.
///
/// # Errors
/// When the cursor and the archive do not fit together.
pub(in crate::outputs) async fn lanes(
    output: &Output,
    aggregator: &AggregatorTransport,
    status: &Arc<OutputStatus>,
    context: &Context,
) -> Result<Vec<(AggregatorSide, Part)>, String> {
    let config = context.config.borrow().clone();
    let line = Line::new(aggregator, via(aggregator), &config, Arc::clone(status));
    let lanes: Vec<_> = lag::lanes(output).collect();
    let hub = Arc::new(Hub {
        line: Arc::new(line),
        streams: Mutex::default(),
        known: Arc::clone(&context.streams),
        links: config.links.clone(),
        log_id: context.durable.history().log_id(),
        lanes: AtomicUsize::new(lanes.len()),
    });
    let mut sides = Vec::new();
    for lane in lanes {
        let mut side = AggregatorSide { lane, hub: Arc::clone(&hub), ledger: Arc::default() };
        let stand = Stand { next_offset: None, sequence: 0 };
        let part = lane::begin(&mut side, stand, &output.name, lane, context).await?;
        sides.push((side, part));
    }
    Ok(sides)
}

/// The name of this daemon at the other aggregator.
fn via(aggregator: &AggregatorTransport) -> Station {
    if !aggregator.via.as_str().is_empty() {
        return aggregator.via.clone();
    }
    let host: String = super::host_name().chars().take(Station::BYTES_MAX).collect();
    Station::new(&host).unwrap_or_default()
}

impl Hub {
    /// Hands a frame of `origin` to the connection of its stream.
    fn push(&self, origin: &Arc<Origin>, lane: FramePriority, mut item: Item) {
        let mut streams = lock(&self.streams);
        if let Some(running) = streams.get(origin) {
            match running.stream.push(lane, item) {
                Ok(()) => return,
                Err(returned) => item = returned,
            }
        }
        let forwarded = Origin { stream: origin.stream.clone(), epoch: self.epoch(origin) };
        let shares_sequence = self.known.shares_sequence(&origin.stream);
        let stream = Arc::new(Stream::new(forwarded, shares_sequence, Arc::clone(&self.line)));
        // A new stream is open.
        let _ = stream.push(lane, item);
        streams.retain(|_, running| running.stream.is_open());
        let name = format!("stream {} to {}", origin.stream, self.line.address());
        let life = stream::run(Arc::clone(&stream));
        let (_, task) = spawn(name, CAPACITY, |_: Mailbox<Infallible>| life);
        streams.insert(Arc::clone(origin), Running { stream, task });
    }

    /// The epoch of `origin` at the other aggregator. Epochs that only this daemon knows get one that follows from it and
    /// from the log: a connection without an epoch of its own, and a link. A link counts from 0 again in a new archive.
    fn epoch(&self, origin: &Origin) -> u64 {
        let Origin { stream, epoch } = origin;
        let is_of = |link: &Link| {
            link.station == stream.station
                && (link.names_source(stream.source_id) || link.may_deliver(stream.source_id))
        };
        if !origin.is_anonymous() && !self.links.iter().any(is_of) {
            return *epoch;
        }
        let own = if origin.is_anonymous() { *epoch } else { self.log_id ^ *epoch };
        (own & (ANONYMOUS_EPOCH_MIN - 1)).max(1)
    }
}

impl Side for AggregatorSide {
    async fn resume(&mut self) -> Result<Stand, Trouble> {
        Ok(Stand { next_offset: None, sequence: 0 })
    }

    fn has_room(&self) -> bool {
        true
    }

    fn parcel_bytes(&self) -> usize {
        0
    }

    async fn send(&mut self, parcel: &Parcel) -> Result<(), Trouble> {
        for (_, frame) in &parcel.frames {
            let ticket = self.ledger.ticket();
            self.hub.push(&frame.origin, self.lane, Item::new(frame, ticket));
        }
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<u64, Trouble> {
        self.ledger.oldest_settled().await;
        Ok(0)
    }

    async fn explain_nothing(&mut self, _stored: u64, _file: &str) -> Result<(), Trouble> {
        Ok(())
    }

    async fn close(&mut self) {
        if self.hub.lanes.fetch_sub(1, SeqCst) > 1 {
            return;
        }
        self.hub.line.close();
        let streams = std::mem::take(&mut *lock(&self.hub.streams));
        let ends = streams.into_values().map(|running| running.task.join());
        // What does not end in time is aborted.
        let _ = timeout(PARTING_MAX, async {
            for end in ends {
                end.await;
            }
        })
        .await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No critical section panics half-way, so a poisoned lock still guards a consistent state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
