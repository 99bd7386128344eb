//! `/api/v1/stream`: server-sent events. The changes are encoded once a second, once for all listeners.
//!
//! The event `stats` is the same as `/api/v1/stats`. `sources` has all streams. `changes` has the streams that changed
//! since the event before. A listener that misses an event gets `sources` again.
//!
//! A slow listener finishes the moment it is reading and then gets the newest one. It holds a few KiB itself and does
//! not delay other listeners. The rest of its moment is kept with the newest moments, a few MiB in total. A listener
//! whose moment is not kept any longer is ended. A listener that reads nothing is ended too (see
//! [`server`](super::server)).

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use axum::body::{Body, Bytes};
use axum::extract::{self, Extension};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::watch;

use super::State;
use super::answer::{ApiError, now, run_blocking};
use super::server::Peer;
use api::{Kind, Source, Sources, Stats};
use connection::Listener;
use connection::refusals::Reason;
use connection::shares::{NoPlace, Share, Shares};
use frame::is_anonymous;
use observe::Handles;
use wire::ErrorCode;

pub(super) const CONTENT_TYPE: &str = "text/event-stream";
/// At most this many listeners at a time. An address may hold as many as are still free. Others get 503.
pub const LISTENERS_MAX: usize = 128;
/// At most this many streams are in an event. `/api/v1/sources` has all.
const SOURCES_MAX: usize = 1_000;

/// The newest moments are kept up to this many bytes, but always at least two.
pub(super) const KEPT_BYTES: usize = 6 << 20;
/// Upper bound in bytes beyond `KEPT_BYTES`: the excess of two large moments, plus one moment being encoded.
pub(super) const MAKING_BYTES: usize = 8 << 20;
/// A listener gets at most this many bytes at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// The events for all listeners.
pub(super) struct Events {
    moments: watch::Receiver<Arc<Moment>>,
    listeners: Arc<Shares>,
}

/// The encoded events of one second.
#[derive(Default)]
struct Moment {
    number: u64,
    stats: Vec<u8>,
    /// The same as `stats`, for listeners who may not read payloads.
    stats_without_payloads: Vec<u8>,
    all: Vec<u8>,
    changes: Vec<u8>,
}

impl Moment {
    fn bytes(&self) -> usize {
        self.stats.len() + self.stats_without_payloads.len() + self.all.len() + self.changes.len()
    }
}

impl Events {
    /// Returns the events and the task that makes them.
    pub(super) fn new(handles: Arc<Handles>) -> (Self, Maker) {
        let (moments_tx, moments) = watch::channel(Arc::default());
        let listeners = Arc::<Shares>::default();
        let maker = Maker { handles, moments_tx, listeners: Arc::clone(&listeners) };
        (Self { moments, listeners }, maker)
    }

    /// Takes a place among the listeners for a client at `address`.
    fn listen(&self, address: IpAddr) -> Result<Share, String> {
        self.listeners.take(address, LISTENERS_MAX).map_err(|NoPlace { has }| {
            format!(
                "{address} has {has} of the {LISTENERS_MAX} places for clients that listen to events, which is all it \
                 can have now; ask /api/v1/stats instead"
            )
        })
    }
}

/// Encodes the changes.
#[derive(Clone)]
pub(super) struct Maker {
    handles: Arc<Handles>,
    moments_tx: watch::Sender<Arc<Moment>>,
    listeners: Arc<Shares>,
}

impl Maker {
    /// Runs until all receivers are dropped. After a restart the first moment has everything.
    pub(super) async fn run(self) {
        let mut rates = self.handles.rates.clone();
        let mut published = Published { number: self.moments_tx.borrow().number, ..Published::default() };
        let mut kept = VecDeque::new();
        loop {
            tokio::select! {
                // Each moment follows new rates, so that its rates are as new as possible.
                changed = rates.changed() => if changed.is_err() { return },
                () = self.moments_tx.closed() => return,
            }
            if self.listeners.is_empty() {
                published = Published { number: published.number, ..Published::default() };
                kept.clear();
                continue;
            }
            let registered = self.handles.registered.current().await;
            let handles = Arc::clone(&self.handles);
            let made = run_blocking(move || {
                let mut published = published;
                let mut streams = handles.table.views();
                let (stats, total) = (handles.stats(&streams), streams.len());
                streams.truncate(SOURCES_MAX);
                let moment = published
                    .moment(stats, Sources { total, sources: handles.sources(streams, &registered) });
                (published, moment)
            });
            let Ok((next, moment)) = made.await else { return };
            published = next;
            keep(&mut kept, Arc::new(moment));
            self.moments_tx.send_replace(kept.back().map(Arc::clone).unwrap_or_default());
        }
    }
}

fn keep(kept: &mut VecDeque<Arc<Moment>>, moment: Arc<Moment>) {
    kept.push_back(moment);
    let mut bytes: usize = kept.iter().map(|moment| moment.bytes()).sum();
    while kept.len() > 2 && bytes > KEPT_BYTES {
        bytes -= kept.pop_front().map_or(0, |oldest| oldest.bytes());
    }
}

/// The last published state.
#[derive(Default)]
struct Published {
    number: u64,
    total: usize,
    sources: HashMap<(u32, Kind, String, Option<u64>), Source>,
}

impl Published {
    fn moment(&mut self, stats: Stats, all: Sources) -> Moment {
        self.number += 1;
        let [all, changes] = self.sources(all);
        let with_payloads = event("stats", &stats);
        let stats_without_payloads = event("stats", &stats.without_payloads());
        Moment { number: self.number, stats: with_payloads, stats_without_payloads, all, changes }
    }

    /// Encodes all streams, and the streams that have changed.
    fn sources(&mut self, all: Sources) -> [Vec<u8>; 2] {
        let key = |source: &Source| {
            // Connections without an epoch of their own share the rest of the key.
            let session = source.session.filter(|_| is_anonymous(source.epoch));
            (source.source_id, source.kind, source.station.clone(), session)
        };
        let changed =
            all.sources.iter().filter(|source| self.sources.get(&key(source)) != Some(source)).collect();
        // `changes` cannot report that a stream is gone. Only the full list can.
        let is_same_set = all.total == self.total
            && all.sources.len() == self.sources.len()
            && all.sources.iter().all(|source| self.sources.contains_key(&key(source)));
        let whole = event("sources", &all);
        let changes =
            if is_same_set { event("changes", &Changes { sources: changed }) } else { whole.clone() };
        self.total = all.total;
        self.sources = all.sources.into_iter().map(|source| (key(&source), source)).collect();
        [whole, changes]
    }
}

/// The streams that differ from the last published state.
#[derive(Serialize)]
struct Changes<'a> {
    sources: Vec<&'a Source>,
}

fn event(name: &str, data: &impl Serialize) -> Vec<u8> {
    let mut text = format!("event: {name}\ndata: ").into_bytes();
    // This JSON has no line feeds. These types can always be serialized.
    let _ = serde_json::to_writer(&mut text, data);
    text.extend_from_slice(b"\n\n");
    text.shrink_to_fit();
    text
}

/// The position of a listener in the moments.
struct ListenerPosition {
    moments: watch::Receiver<Arc<Moment>>,
    seen: Option<u64>,
    reading: Option<Reading>,
    /// Called for each moment, because a reload may change the token.
    may_read_payloads: Box<dyn Fn() -> bool + Send>,
    _listener: Share,
}

/// The position of a listener within one moment.
struct Reading {
    moment: Weak<Moment>,
    /// Whether the listener has read the moment before. If so, it gets only the changes.
    is_next: bool,
    may_read_payloads: bool,
    at: usize,
}

pub(super) async fn stream(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let listener = state.events.listen(peer.0.ip()).map_err(|reason| {
        state.handles.refusals.note(Listener::Http, peer.0, Reason::Code(ErrorCode::Busy), &reason);
        ApiError::unavailable(reason)
    })?;
    let mut moments = state.events.moments.clone();
    moments.borrow_and_update();
    let may_read_payloads = Box::new(move || state.may_read_payloads(peer, &headers));
    let position =
        ListenerPosition { moments, seen: None, reading: None, may_read_payloads, _listener: listener };
    let events = stream::unfold(position, |mut position| async move {
        let event = position.next().await?;
        Some((Ok::<_, Infallible>(event), position))
    });
    Ok(now(CONTENT_TYPE, Body::from_stream(events)))
}

impl ListenerPosition {
    /// The next bytes for the listener. `None` ends the connection.
    async fn next(&mut self) -> Option<Bytes> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.newest().await?,
        };
        let (chunk, is_end) = reading.next()?;
        self.reading = (!is_end).then_some(reading);
        Some(chunk)
    }

    async fn newest(&mut self) -> Option<Reading> {
        self.moments.changed().await.ok()?;
        let moment = self.moments.borrow_and_update();
        let is_next = self.seen.is_some_and(|seen| seen + 1 == moment.number);
        self.seen = Some(moment.number);
        let may_read_payloads = (self.may_read_payloads)();
        Some(Reading { moment: Arc::downgrade(&moment), is_next, may_read_payloads, at: 0 })
    }
}

impl Reading {
    /// A copy of the next part, and whether it is the last. `None` when the moment is not kept any longer.
    fn next(&mut self) -> Option<(Bytes, bool)> {
        let moment = self.moment.upgrade()?;
        let sources = if self.is_next { &moment.changes } else { &moment.all };
        let stats = if self.may_read_payloads { &moment.stats } else { &moment.stats_without_payloads };
        let rest = match self.at.checked_sub(stats.len()) {
            None => &stats[self.at..],
            Some(at) => &sources[at..],
        };
        let part = &rest[..rest.len().min(CHUNK_BYTES)];
        self.at += part.len();
        Some((Bytes::copy_from_slice(part), self.at == stats.len() + sources.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(number: u64, bytes: usize) -> Arc<Moment> {
        let of = |byte: u8| vec![byte; bytes];
        let (stats, stats_without_payloads) = (of(b's'), of(b'w'));
        Arc::new(Moment { number, stats, stats_without_payloads, all: of(b'a'), changes: of(b'c') })
    }

    fn position(moments: watch::Receiver<Arc<Moment>>) -> ListenerPosition {
        let _listener = Arc::<Shares>::default().take([127, 0, 0, 1].into(), 1).unwrap();
        ListenerPosition {
            moments,
            seen: None,
            reading: None,
            may_read_payloads: Box::new(|| true),
            _listener,
        }
    }

    /// The length of each run of equal bytes.
    fn runs(text: &[u8]) -> Vec<(u8, usize)> {
        text.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
    }

    async fn read(position: &mut ListenerPosition) -> Vec<u8> {
        let mut text = Vec::new();
        while text.is_empty() || position.reading.is_some() {
            text.extend(position.next().await.unwrap());
        }
        text
    }

    #[test]
    fn the_newest_moments_are_kept_and_at_least_two() {
        let mut kept = VecDeque::new();
        for number in 0..100 {
            keep(&mut kept, moment(number, KEPT_BYTES / 13));
        }
        assert_eq!(kept.iter().map(|moment| moment.number).collect::<Vec<_>>(), [97, 98, 99]);
        for number in 100..110 {
            keep(&mut kept, moment(number, KEPT_BYTES));
            assert_eq!((kept.len(), kept[1].number), (2, number));
        }
    }

    #[test]
    fn streams_beyond_the_limit_are_no_change() {
        let mut published = Published { total: 7, ..Published::default() };
        let is_change = [2_000, 2_000, 2_001, 2_001].map(|total| {
            let [_, changes] = published.sources(Sources { total, sources: vec![] });
            changes.starts_with(b"event: changes")
        });
        assert_eq!(is_change, [false, true, false, true]);
    }

    #[tokio::test]
    async fn a_listener_gets_all_and_then_changes_in_pieces() {
        let (moments_tx, moments) = watch::channel(Arc::default());
        let (mut position, bytes) = (position(moments), 2 * CHUNK_BYTES + 7);
        let mut received = Vec::new();
        // Moment 3 is missing.
        for number in [1, 2, 4, 5] {
            moments_tx.send_replace(moment(number, bytes));
            received.extend(read(&mut position).await);
        }
        let kinds: Vec<_> =
            runs(&received).into_iter().map(|(kind, count)| (char::from(kind), count)).collect();
        let expected = [('s', bytes), ('a', bytes), ('s', bytes), ('c', bytes)];
        assert_eq!(kinds, [expected, [('s', bytes), ('a', bytes), ('s', bytes), ('c', bytes)]].concat());
    }

    #[tokio::test]
    async fn a_listener_whose_moment_is_dropped_is_ended() {
        let (moments_tx, moments) = watch::channel(Arc::default());
        let mut position = position(moments);
        moments_tx.send_replace(moment(1, CHUNK_BYTES));
        assert_eq!(position.next().await.unwrap().len(), CHUNK_BYTES);
        moments_tx.send_replace(moment(2, CHUNK_BYTES));
        assert_eq!(position.next().await, None);
    }
}
