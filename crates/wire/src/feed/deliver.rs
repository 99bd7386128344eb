//! DELIVER: a durable frame on its way to a subscriber.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::fields::Fields;
use crate::{WireError, framing, kind};
use frame::{Frame, FrameFlags, FramePriority, FrameView, Origin, SourceKind, Station, StreamKey};

/// Bytes of DELIVER before the station.
const DELIVER_FIXED_BYTES: usize = 52;

/// DELIVER: one durable frame.
#[derive(Clone, Debug)]
pub struct Deliver {
    /// The offset of the frame in the log.
    pub offset: u64,
    /// The frame; its payload is a slice of the body.
    pub frame: Frame,
}

impl Deliver {
    /// Reads a body of type DELIVER.
    ///
    /// # Errors
    /// `protocol` when it is too short or a value is reserved.
    pub fn decode(mut body: Bytes) -> Result<Self, WireError> {
        let mut fields = Fields::new("DELIVER", &body);
        let lane = fields.u8()?;
        let header_len = usize::from(fields.u8()?);
        let flags = FrameFlags(fields.u8()?);
        let source_id = fields.u32()?;
        let (offset, sequence, epoch) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (ert_ns, received_ns) = (fields.i64()?, fields.i64()?);
        let source_kind = fields.u8()?;
        let station_len = usize::from(fields.u8()?);
        fields.u16()?;
        let station = Station::stored(fields.text("station", station_len)?)
            .map_err(|error| WireError::protocol(error.to_string()))?;
        let priority = FramePriority::from_wire(lane)
            .ok_or_else(|| WireError::protocol(format!("priority {lane} of DELIVER is reserved")))?;
        let source_kind = SourceKind::from_wire(source_kind).ok_or_else(|| {
            WireError::protocol(format!("source kind {source_kind} of DELIVER is reserved"))
        })?;
        if header_len < DELIVER_FIXED_BYTES + station_len || header_len > body.len() {
            return Err(WireError::protocol(format!(
                "header_len {header_len} of a DELIVER of {} bytes whose station has {station_len}",
                body.len()
            )));
        }
        body.advance(header_len);
        let origin = Arc::new(Origin { stream: StreamKey { source_id, source_kind, station }, epoch });
        let frame = Frame {
            source_id,
            source_kind,
            priority,
            flags,
            sequence,
            ert_ns,
            received_ns,
            origin,
            payload: body,
        };
        Ok(Self { offset, frame })
    }

    /// Appends the message for `frame` at `offset`, with its length prefix.
    pub fn encode<'a>(offset: u64, frame: impl Into<FrameView<'a>>, out: &mut BytesMut) {
        let frame = frame.into();
        let stream = &frame.origin.stream;
        let station = stream.station.as_str().as_bytes();
        let header_len = DELIVER_FIXED_BYTES + station.len();
        let body_len = header_len + frame.payload.len();
        let mut header = [0; framing::PREFIX_BYTES + DELIVER_FIXED_BYTES];
        header[0..4].copy_from_slice(&(body_len as u32).to_be_bytes());
        header[4..8].copy_from_slice(&[kind::DELIVER, frame.priority as u8, header_len as u8, frame.flags.0]);
        header[8..12].copy_from_slice(&stream.source_id.to_be_bytes());
        header[12..20].copy_from_slice(&offset.to_be_bytes());
        header[20..28].copy_from_slice(&frame.sequence.to_be_bytes());
        header[28..36].copy_from_slice(&frame.origin.epoch.to_be_bytes());
        header[36..44].copy_from_slice(&frame.ert_ns.to_be_bytes());
        header[44..52].copy_from_slice(&frame.received_ns.to_be_bytes());
        header[52..56].copy_from_slice(&[stream.source_kind as u8, station.len() as u8, 0, 0]);
        out.reserve(framing::PREFIX_BYTES + body_len);
        out.extend_from_slice(&header);
        out.extend_from_slice(station);
        out.extend_from_slice(frame.payload);
    }
}

/// Bytes that [`Deliver::encode`] appends for `frame`.
#[must_use]
pub fn deliver_bytes<'a>(frame: impl Into<FrameView<'a>>) -> usize {
    let frame = frame.into();
    let station = frame.origin.stream.station.as_str().len();
    framing::PREFIX_BYTES + DELIVER_FIXED_BYTES + station + frame.payload.len()
}
