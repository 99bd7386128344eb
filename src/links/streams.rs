//! The streams that one connection of a link carries.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::sorter::Kept;
use super::status::LinkStatus;
use crate::config::{Link, LinkTransport, WhenFull};
use crate::frame::{
    BufferPool, FrameFlags, FrameMeta, FramePriority, Lanes, ReadBuffer, SourceKind, StreamKey,
};
use crate::framing::Unit;
use crate::ingest::{Carrier, LinkStream, Router, StreamState};

/// How long the link waits before it asks again for a stream that it may not carry.
const RETRY: Duration = Duration::from_secs(1);
/// Most sources of one connection. The units of others are counted as refused.
const SOURCES_MAX: usize = 4_096;
/// Bytes of a FRAME that a client of the daemon's own protocol would send before the payload. A unit of a link costs as
/// much.
const HEADER_BYTES: u8 = 20;

/// The streams of one connection, and the frames of one read that are on their way to them.
#[derive(Debug)]
pub(super) struct Streams {
    config: Arc<Link>,
    status: Arc<LinkStatus>,
    router: Router,
    carrier: Carrier,
    pool: Arc<BufferPool>,
    carried: Vec<Carried>,
}

#[derive(Debug)]
struct Carried {
    source: u32,
    /// `None` while the link may not carry the stream.
    stream: Option<LinkStream>,
    retry_at: Instant,
    /// No frame has come on this connection.
    is_first: bool,
    /// The frames of the current read.
    gathered: Option<ReadBuffer>,
}

impl Streams {
    pub(super) const fn new(
        config: Arc<Link>,
        status: Arc<LinkStatus>,
        router: Router,
        carrier: Carrier,
        pool: Arc<BufferPool>,
    ) -> Self {
        Self { config, status, router, carrier, pool, carried: Vec::new() }
    }

    /// Adds `unit` to the frames of the current read. `is_gap` says that frames were lost before it.
    pub(super) fn gather(&mut self, kept: Kept, unit: &Unit, is_gap: bool) {
        let Some(index) = self.index_of(kept.source) else {
            self.status.count(|counts| counts.refused += 1);
            return;
        };
        let carried = &mut self.carried[index];
        let is_gap = is_gap || std::mem::take(&mut carried.is_first);
        let mut flags = FrameFlags::default();
        if is_gap {
            flags.insert(FrameFlags::DISCONTINUITY);
        }
        if kept.is_bad {
            flags.insert(FrameFlags::BAD_QUALITY);
        }
        let buffer = carried.gathered.get_or_insert_with(|| self.pool.take());
        // One read brings far fewer than 4 GiB.
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
    }

    fn index_of(&mut self, source: u32) -> Option<usize> {
        let known = self.carried.iter().position(|carried| carried.source == source);
        known.or_else(|| {
            let index = self.carried.len();
            (index < SOURCES_MAX).then(|| {
                let retry_at = Instant::now();
                self.carried.push(Carried { source, stream: None, retry_at, is_first: true, gathered: None });
                index
            })
        })
    }

    /// Hands over the frames of the current read, which came at `received_ns` (unix nanoseconds).
    pub(super) async fn hand_over(&mut self, received_ns: i64) {
        for index in 0..self.carried.len() {
            let Some(buffer) = self.carried[index].gathered.take() else { continue };
            self.open(index).await;
            let frames = buffer.metas.values().map(Vec::len).sum::<usize>() as u64;
            let Some(stream) = &mut self.carried[index].stream else {
                self.status.count(|counts| counts.refused += frames);
                self.pool.give(buffer);
                continue;
            };
            let buffer = make_fit(buffer, stream, &self.config, &self.status);
            match stream.deliver(buffer, &self.pool, received_ns) {
                Ok(kept) => self.status.count(|counts| counts.kept += kept),
                Err(released) => {
                    self.status.count(|counts| counts.refused += frames);
                    self.status.note_refused(Some(released.to_string()));
                    self.carried[index].stream = None;
                }
            }
        }
    }

    /// Opens the stream at `index`, unless it is open or was refused a moment ago.
    async fn open(&mut self, index: usize) {
        let Carried { source, ref stream, retry_at, .. } = self.carried[index];
        if stream.is_some() || Instant::now() < retry_at {
            return;
        }
        let key = StreamKey {
            source_id: source,
            source_kind: SourceKind::LiveUplink,
            station: self.config.station.clone(),
        };
        let opened = self.router.carry(key, self.carrier.clone()).await;
        let carried = &mut self.carried[index];
        match opened {
            Ok(stream) => {
                carried.stream = Some(stream);
                if self.carried.iter().all(|carried| carried.stream.is_some()) {
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

    /// The least cost that a stream can still take, per lane. `u64::MAX` without a stream.
    pub(super) fn room(&self) -> Lanes<u64> {
        let rooms = self.carried.iter().filter_map(|carried| carried.stream.as_ref()).map(LinkStream::room);
        rooms.fold(Lanes::both(u64::MAX), |least, room| {
            Lanes::from_fn(|priority| least[priority].min(room[priority]))
        })
    }

    /// Releases the streams. `state` is what operators see from here on.
    pub(super) fn end(self, state: StreamState) {
        self.carried.into_iter().filter_map(|carried| carried.stream).for_each(|stream| stream.end(state));
    }
}

/// Drops the frames of each lane that does not fit the window, if the link drops in that lane.
fn make_fit(mut buffer: ReadBuffer, stream: &LinkStream, config: &Link, status: &LinkStatus) -> ReadBuffer {
    let is_udp = matches!(config.transport, LinkTransport::Udp { .. });
    let drops = Lanes::new(is_udp, is_udp || config.when_full == WhenFull::DropRoutine);
    if drops == Lanes::both(false) {
        return buffer;
    }
    let room = stream.room();
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
