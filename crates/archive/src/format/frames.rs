//! Reads the body of a block of frames without trusting its content. `encoder` writes the body.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::bytes::Cursor;
use super::{BlockHeader, FRAME_HEADER_BYTES, FRAMES_PREFIX_BYTES};
use frame::{Frame, FrameFlags, FramePriority, FrameView, Origin, SourceKind, Station, StreamKey};

/// Appends the fixed part of an origin: all of it but the name of the station. The origin table of a block and a block
/// of positions use the same form.
pub(crate) fn push_origin(buffer: &mut Vec<u8>, stream: &StreamKey, epoch: u64) {
    buffer.extend_from_slice(&stream.source_id.to_le_bytes());
    buffer.push(stream.source_kind as u8);
    buffer.push(stream.station.as_str().len() as u8);
    buffer.extend_from_slice(&[0; 2]);
    buffer.extend_from_slice(&epoch.to_le_bytes());
}

/// The fixed part of an origin. The name of the station follows it in the bytes.
pub(crate) struct OriginHeader {
    /// The source.
    source_id: u32,
    /// Its kind.
    source_kind: SourceKind,
    /// Bytes of the station's name, at most [`Station::BYTES_MAX`].
    station_len: usize,
    /// The epoch.
    pub(crate) epoch: u64,
}

impl OriginHeader {
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let source_id = cursor.u32()?;
        let source_kind = SourceKind::from_wire(cursor.u8()?)?;
        let station_len = usize::from(cursor.u8()?);
        cursor.take(2)?;
        let epoch = cursor.u64()?;
        Some(Self { source_id, source_kind, station_len, epoch })
    }

    /// Reads the name of the station. Returns the whole key of the stream.
    pub(crate) fn read_stream_key(&self, cursor: &mut Cursor<'_>) -> Option<StreamKey> {
        let name = std::str::from_utf8(cursor.take(self.station_len)?).ok()?;
        Some(StreamKey {
            source_id: self.source_id,
            source_kind: self.source_kind,
            station: Station::stored(name).ok()?,
        })
    }
}

/// The frames of a block. Payloads are slices of the body.
pub(crate) struct FrameIter {
    /// The body of the block.
    body: Bytes,
    /// Index in `body` of the next frame.
    at: usize,
    /// Index in `body` behind the last frame.
    frames_end: usize,
    /// Frames that are not read yet, by the header of the block.
    left: u32,
    /// The origin table.
    origins: Vec<Arc<Origin>>,
}

impl FrameIter {
    /// Starts with a block whose checksums are right; `None` if its tables are malformed.
    pub(crate) fn new(header: &BlockHeader, body: Bytes) -> Option<Self> {
        let (frames_end, origins) = tables(header, &body)?;
        Some(Self { at: FRAMES_PREFIX_BYTES, frames_end, left: header.frame_count, body, origins })
    }

    /// The header of the next frame and the range of its payload in the body. An inner `None` means that the block is
    /// malformed from here on.
    fn advance(&mut self) -> Option<Option<(RecordHeader, Range<usize>)>> {
        self.left = self.left.checked_sub(1)?;
        let header = self.body.get(self.at..self.frames_end).and_then(RecordHeader::read);
        let Some(header) = header.filter(|header| usize::from(header.origin) < self.origins.len()) else {
            self.left = 0;
            return Some(None);
        };
        let payload_at = self.at + FRAME_HEADER_BYTES;
        self.at += header.frame_len();
        Some(Some((header, payload_at..self.at)))
    }

    /// As [`Iterator::next`], but the frame borrows from the block and holds no counted reference.
    pub(crate) fn next_view(&mut self) -> Option<Option<FrameView<'_>>> {
        let Some((header, payload)) = self.advance()? else {
            return Some(None);
        };
        Some(Some(header.view(&self.origins[usize::from(header.origin)], &self.body[payload])))
    }
}

/// Returns the end of the frames in `body`, and the origins from the table behind the frames. `None` if the table is
/// malformed.
pub(super) fn tables(header: &BlockHeader, body: &[u8]) -> Option<(usize, Vec<Arc<Origin>>)> {
    let mut cursor = Cursor(body);
    let frames_len = cursor.u32()? as usize;
    cursor.take(FRAMES_PREFIX_BYTES - 4)?;
    cursor.take(frames_len)?;
    let mut origins = Vec::new();
    for _ in 0..header.origin_count {
        let origin = OriginHeader::read(&mut cursor)?;
        let stream = origin.read_stream_key(&mut cursor)?;
        origins.push(Arc::new(Origin { stream, epoch: origin.epoch }));
    }
    Some((FRAMES_PREFIX_BYTES + frames_len, origins))
}

/// The header of a frame in the log, which lies before the payload. The protocol has another one, `wire::FrameHeader`.
#[derive(Clone, Copy)]
pub(crate) struct RecordHeader {
    /// Bytes of the payload.
    payload_len: usize,
    /// Index into the block's origin table.
    pub(crate) origin: u16,
    /// The lane.
    pub(crate) priority: FramePriority,
    /// As the client sent them.
    flags: FrameFlags,
    /// Number of the frame within its epoch and lane.
    sequence: u64,
    /// Earth reception time: when the station received the frame, in unix nanoseconds. The client gives it; 0 if it does
    /// not know.
    ert_ns: i64,
    /// When this daemon read the frame, in unix nanoseconds.
    pub(super) received_ns: i64,
}

impl RecordHeader {
    /// Reads the header at the start of `bytes`. `None` if `bytes` end before the payload ends, or the priority is
    /// unknown.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        // Check the length once and not for each field, because this runs for every frame that is read.
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
        let mut cursor = Cursor(header);
        let header = Self {
            payload_len: cursor.u32()? as usize,
            origin: cursor.u16()?,
            priority: FramePriority::from_wire(cursor.u8()?)?,
            flags: FrameFlags(cursor.u8()?),
            sequence: cursor.u64()?,
            ert_ns: cursor.i64()?,
            received_ns: cursor.i64()?,
        };
        (header.payload_len <= rest.len()).then_some(header)
    }

    /// Bytes of the frame, payload included.
    pub(crate) const fn frame_len(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload_len
    }

    /// As [`Self::frame`], but the frame borrows `origin` and `payload`.
    #[inline]
    pub(super) const fn view<'a>(&self, origin: &'a Arc<Origin>, payload: &'a [u8]) -> FrameView<'a> {
        let Self { priority, flags, sequence, ert_ns, received_ns, .. } = *self;
        FrameView { priority, flags, sequence, ert_ns, received_ns, origin, payload }
    }

    /// The frame with this header, of `origin` and with `payload`.
    pub(crate) fn frame(self, origin: Arc<Origin>, payload: Bytes) -> Frame {
        Frame {
            source_id: origin.stream.source_id,
            source_kind: origin.stream.source_kind,
            priority: self.priority,
            flags: self.flags,
            sequence: self.sequence,
            ert_ns: self.ert_ns,
            received_ns: self.received_ns,
            payload,
            origin,
        }
    }
}

impl Iterator for FrameIter {
    /// An inner `None` means that the block is malformed from here on.
    type Item = Option<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some((header, payload)) = self.advance()? else {
            return Some(None);
        };
        let origin = Arc::clone(&self.origins[usize::from(header.origin)]);
        Some(Some(header.frame(origin, self.body.slice(payload))))
    }
}
