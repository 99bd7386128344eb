//! The streams that one connection of a link carries.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::recent::{Recent, Room};
use super::sorter::Kept;
use super::status::LinkStatus;
use config::{Link, LinkTransport, WhenFull};
use frame::{BufferPool, FrameFlags, FrameMeta, FramePriority, Lanes, ReadBuffer, SourceKind, StreamKey};
use framing::Unit;
use ingest::{Carrier, LinkStream, Router, SessionPolicy, StreamState};
use support::logging::{Kind, by_peer};

/// How long the link waits before it asks again for a stream that it may not carry.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes of a FRAME that a client of the daemon's own protocol would send before the payload. A unit of a link costs as
/// much.
const HEADER_BYTES: u8 = 20;
/// The frames of a read are handed over when they have so many bytes of payload, or when there are so many of them.
const GATHERED_BYTES: usize = 64 << 10;
const GATHERED_MAX: usize = 2_048;

/// The streams of one connection, and the frames of one read that are on their way to them.
#[derive(Debug)]
pub(super) struct Streams {
    /// The configuration of the link.
    config: Arc<Link>,
    /// The state and the counts of the link.
    status: Arc<LinkStatus>,
    /// Opens streams and releases them.
    router: Router,
    /// The limits in force. Their windows are shared by all streams of the link.
    policy: watch::Receiver<Arc<SessionPolicy>>,
    /// The connection, as the router and the queues know it.
    carrier: Carrier,
    /// The pool of buffers for frames.
    pool: Arc<BufferPool>,
    /// The streams by source.
    carried: Recent<u32, Carried>,
    /// The sources with frames of the current read.
    gathered: Vec<u32>,
    /// Payload bytes of these frames.
    gathered_bytes: usize,
    /// The number of these frames.
    gathered_frames: usize,
    /// Streams that gave their places to others.
    released: Vec<LinkStream>,
    /// The log and the trouble name a source that found no place.
    is_full_noted: bool,
}

/// A source that has a place on the connection.
#[derive(Debug)]
struct Carried {
    /// `None` while the link may not carry the stream.
    stream: Option<LinkStream>,
    /// When the router is asked again for a stream that it has refused.
    retry_at: Instant,
    /// No frame has come on this connection.
    is_first: bool,
    /// The frames of the current read.
    gathered: Option<ReadBuffer>,
}

impl Streams {
    pub(super) fn new(
        config: Arc<Link>,
        status: Arc<LinkStatus>,
        router: Router,
        policy: watch::Receiver<Arc<SessionPolicy>>,
        carrier: Carrier,
        pool: Arc<BufferPool>,
    ) -> Self {
        Self {
            config,
            status,
            router,
            policy,
            carrier,
            pool,
            carried: Recent::default(),
            gathered: Vec::new(),
            gathered_bytes: 0,
            gathered_frames: 0,
            released: Vec::new(),
            is_full_noted: false,
        }
    }

    /// Whether a unit of `source` must wait until a second unit confirms the source: neither a checksum nor the
    /// configuration vouches for it, the connection does not carry it yet, and it carries others. The first source of a
    /// connection is believed.
    pub(super) fn needs_confirmation(&self, source: u32) -> bool {
        self.config.takes_any_header()
            && !self.carried.has(source)
            && !self.carried.is_empty()
            && !self.config.names_stream_of(source)
    }

    /// Whether the gathered frames must be handed over before another unit is gathered.
    pub(super) const fn is_full(&self) -> bool {
        self.gathered_bytes >= GATHERED_BYTES || self.gathered_frames >= GATHERED_MAX
    }

    /// Adds `unit` to the frames of the current read, which came at `now`. `is_gap` says that frames were lost before
    /// it.
    pub(super) fn gather(&mut self, kept: Kept, unit: &Unit, is_gap: bool, now: Instant) {
        if !self.carried.has(kept.source) && !self.take_place(kept.source, now) {
            self.status.count(|counts| counts.refused += 1);
            return;
        }
        let Some(carried) = self.carried.using(kept.source, now) else { return };
        let is_gap = is_gap || std::mem::take(&mut carried.is_first);
        let mut flags = FrameFlags::default();
        if is_gap {
            flags.insert(FrameFlags::DISCONTINUITY);
        }
        if kept.is_bad {
            flags.insert(FrameFlags::BAD_QUALITY);
        }
        let buffer = carried.gathered.get_or_insert_with(|| {
            // One buffer of the pool for each source would take far more memory than what was read.
            let buffer = if self.gathered.is_empty() { self.pool.take() } else { ReadBuffer::default() };
            self.gathered.push(kept.source);
            buffer
        });
        // The bytes of a read are far fewer than 4 GiB.
        let (payload_at, payload_len) = (buffer.bytes.len() as u32, unit.data.len() as u32);
        buffer.bytes.extend_from_slice(&unit.data);
        buffer.metas[kept.priority].push(FrameMeta {
            ert_ns: unit.ert_ns.unwrap_or(0),
            payload_at,
            payload_len,
            header_len: HEADER_BYTES,
            flags,
            ..FrameMeta::default()
        });
        self.gathered_bytes += unit.data.len();
        self.gathered_frames += 1;
    }

    /// Gives `source` a place. A stream that is idle gives its place. Returns false when every place is in use.
    fn take_place(&mut self, source: u32, now: Instant) -> bool {
        // A source that the configuration names always finds a place; `max_sources` is for the others.
        let is_named = self.config.names_stream_of(source);
        let max = if is_named { usize::MAX } else { self.config.max_sources };
        match self.carried.make_room(max, now) {
            Room::Free => {}
            Room::GaveWay(_, idle) => {
                self.released.extend(idle.stream);
                self.is_full_noted = false;
            }
            Room::Full => {
                self.note_full(source);
                return false;
            }
        }
        let carried = Carried { stream: None, retry_at: now, is_first: true, gathered: None };
        self.carried.insert(source, carried, now);
        true
    }

    fn note_full(&mut self, source: u32) {
        if std::mem::replace(&mut self.is_full_noted, true) {
            return;
        }
        let text = format!(
            "source {source}: all {} places for sources that the configuration does not name are in use; name the \
             spacecraft, or raise max_sources",
            self.config.max_sources
        );
        by_peer!(Kind::Linked, WARN, link = self.config.name, "frames are refused: {text}");
        self.status.note_refused(Some(text));
    }

    /// Hands over the frames that were gathered, which came at `received_ns` (unix nanoseconds), and opens their
    /// streams. Waits only for answers of the router. The queues take all frames, also beyond their windows, unless the
    /// link drops what does not fit ([`make_fit`]).
    pub(super) async fn hand_over(&mut self, received_ns: i64) {
        for stream in self.released.drain(..) {
            self.router.release(stream, StreamState::Ended).await;
        }
        (self.gathered_bytes, self.gathered_frames) = (0, 0);
        for source in std::mem::take(&mut self.gathered) {
            self.open(source).await;
            let room = self.room();
            let Some(carried) = self.carried.get_mut(source) else { continue };
            let Some(buffer) = carried.gathered.take() else { continue };
            let frames = buffer.metas.values().map(Vec::len).sum::<usize>() as u64;
            let Some(stream) = &mut carried.stream else {
                self.status.count(|counts| counts.refused += frames);
                self.pool.give(buffer);
                continue;
            };
            let buffer = make_fit(buffer, room, &self.config, &self.status);
            match stream.deliver(buffer, &self.pool, received_ns) {
                Ok(kept) => self.status.count(|counts| counts.kept += kept),
                Err(released) => {
                    self.status.count(|counts| counts.refused += frames);
                    self.status.note_refused(Some(released.to_string()));
                    self.released.extend(carried.stream.take());
                }
            }
        }
    }

    /// Opens the stream of `source`, unless it is open or was refused a moment ago.
    async fn open(&mut self, source: u32) {
        let Some(carried) = self.carried.get_mut(source) else { return };
        if carried.stream.is_some() || Instant::now() < carried.retry_at {
            return;
        }
        let key = StreamKey {
            source_id: source,
            source_kind: SourceKind::LiveUplink,
            station: self.config.station.clone(),
        };
        let invented_max = (!self.config.names_stream_of(source)).then_some(self.config.max_sources);
        match self.router.carry(key, invented_max, self.carrier.clone()).await {
            Ok(stream) => {
                if !stream.has_position() {
                    by_peer!(
                        Kind::Linked,
                        WARN,
                        link = self.config.name,
                        source,
                        "the sequences of this source begin again at each connection: max_sources streams have positions \
                         already; name the spacecraft, raise max_sources, or forget streams that are not needed"
                    );
                }
                carried.stream = Some(stream);
                if !self.is_full_noted && self.carried.iter().all(|(_, carried)| carried.stream.is_some()) {
                    self.status.note_refused(None);
                }
            }
            Err(refusal) => {
                carried.retry_at = Instant::now() + RETRY;
                tracing::debug!(link = self.config.name, source, "{}", refusal.text);
                self.status.note_refused(Some(format!("source {source}: {}", refusal.text)));
            }
        }
    }

    /// The cost that the streams of the link can still take, per lane. All of them share one window.
    pub(super) fn room(&self) -> Lanes<u64> {
        let windows = self.policy.borrow().config.windows();
        let queued = self.carrier.queued.queued();
        Lanes::from_fn(|priority| windows[priority].saturating_sub(queued[priority]))
    }

    /// Releases the streams. `state` is what operators see from here on.
    pub(super) fn end(self, state: StreamState) {
        let carried = self.carried.into_values().filter_map(|carried| carried.stream);
        carried.chain(self.released).for_each(|stream| stream.end(state));
    }
}

/// Drops the frames of each lane that does not fit `room`, if the link drops in that lane.
fn make_fit(mut buffer: ReadBuffer, room: Lanes<u64>, config: &Link, status: &LinkStatus) -> ReadBuffer {
    let is_udp = matches!(config.transport, LinkTransport::Udp { .. });
    let drops = Lanes::new(is_udp, is_udp || config.when_full == WhenFull::DropRoutine);
    for priority in FramePriority::ALL {
        let metas = &mut buffer.metas[priority];
        let cost: u64 = metas.iter().map(FrameMeta::cost).sum();
        if drops[priority] && cost > room[priority] {
            status.count(|counts| counts.full_dropped += metas.len() as u64);
            metas.clear();
        }
    }
    buffer
}
