//! FRAME and ACK: telemetry, and the confirmation that it is on stable storage.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::framing::encode;
use super::{ErrorCode, SEQUENCE_FORBIDDEN, WireError, fields::Fields, kind};
use frame::{FrameFlags, FramePriority, frame_cost};

/// Bytes of FRAME before the payload in this version.
pub const FRAME_HEADER_BYTES: usize = 20;
/// FRAME: one telemetry frame of the connection's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameMessage {
    /// The lane.
    pub priority: FramePriority,
    /// Marks of the sender.
    pub flags: FrameFlags,
    /// Strictly increasing within (epoch, lane).
    pub sequence: u64,
    /// Earth reception time, unix nanoseconds, 0 = unknown.
    pub ert_ns: i64,
    /// The credit that the frame uses, from the length of the body.
    pub cost: u64,
    /// The content.
    pub payload: Bytes,
}

/// The bytes before the payload of a FRAME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The lane.
    pub priority: FramePriority,
    /// Marks of the sender.
    pub flags: FrameFlags,
    /// The position in the body at which the payload begins.
    pub header_len: usize,
    /// Strictly increasing within (epoch, lane).
    pub sequence: u64,
    /// Earth reception time, unix nanoseconds, 0 = unknown.
    pub ert_ns: i64,
}

impl FrameHeader {
    /// Reads the start of a body of type FRAME. Checks in the order of the protocol: priority, header_len,
    /// sequence.
    ///
    /// # Errors
    /// `bad_priority`, or `protocol` for all other errors.
    // Without this attribute the compiler calls this function for each frame, which makes a frame of 64 B a
    // tenth slower.
    #[inline(always)]
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let Some(header) = body.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err(too_short(body));
        };
        let [_, lane, header_len, flags, sequence @ .., _, _, _, _, _, _, _, _] = *header;
        let [.., e0, e1, e2, e3, e4, e5, e6, e7] = *header;
        let Some(priority) = FramePriority::from_wire(lane) else {
            return Err(bad_priority(lane));
        };
        let header_len = usize::from(header_len);
        if header_len < FRAME_HEADER_BYTES || header_len > body.len() {
            return Err(bad_header_len(header_len, body.len()));
        }
        let sequence = u64::from_be_bytes(sequence);
        if sequence == SEQUENCE_FORBIDDEN {
            return Err(WireError::protocol("sequence 2^64-1 is reserved"));
        }
        let ert_ns = i64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7]);
        Ok(Self { priority, flags: FrameFlags(flags), header_len, sequence, ert_ns })
    }
}

impl FrameMessage {
    /// A frame to send. Computes its cost.
    #[must_use]
    pub fn new(
        priority: FramePriority,
        flags: FrameFlags,
        sequence: u64,
        ert_ns: i64,
        payload: Bytes,
    ) -> Self {
        let cost = frame_cost(FRAME_HEADER_BYTES + payload.len());
        Self { priority, flags, sequence, ert_ns, cost, payload }
    }

    /// Reads a body of type FRAME.
    ///
    /// # Errors
    /// As [`FrameHeader::decode`].
    pub fn decode(mut body: Bytes) -> Result<Self, WireError> {
        let cost = frame_cost(body.len());
        let FrameHeader { priority, flags, header_len, sequence, ert_ns } = FrameHeader::decode(&body)?;
        body.advance(header_len);
        Ok(Self { priority, flags, sequence, ert_ns, cost, payload: body })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(super::framing::PREFIX_BYTES + FRAME_HEADER_BYTES + self.payload.len());
        encode(out, |body| {
            body.put_slice(&[kind::FRAME, self.priority as u8, FRAME_HEADER_BYTES as u8, self.flags.0]);
            body.put_u64(self.sequence);
            body.put_i64(self.ert_ns);
            body.put_slice(&self.payload);
        });
    }
}

/// The error for a short body. A wrong priority is reported first, if the body has one.
#[cold]
fn too_short(body: &[u8]) -> WireError {
    match body.get(1) {
        Some(&lane) if FramePriority::from_wire(lane).is_none() => bad_priority(lane),
        _ => WireError::protocol(format!(
            "FRAME of {} bytes is shorter than its {FRAME_HEADER_BYTES} header bytes",
            body.len()
        )),
    }
}

#[cold]
fn bad_priority(lane: u8) -> WireError {
    let text = format!("priority {lane} is neither 0 (emergency) nor 1 (routine)");
    WireError::new(ErrorCode::BadPriority, text)
}

#[cold]
fn bad_header_len(header_len: usize, body_bytes: usize) -> WireError {
    WireError::protocol(format!(
        "header_len {header_len} of a FRAME of {body_bytes} bytes is out of range: expected {FRAME_HEADER_BYTES} \
         to the length of the FRAME"
    ))
}

/// ACK: durable position and credit of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The lane.
    pub priority: FramePriority,
    /// Frames dropped as duplicates on this connection and lane.
    pub duplicates: u32,
    /// Every accepted frame of this stream, epoch and lane below this is on stable storage.
    pub durable_next: u64,
    /// The highest cost that the client may have sent on this lane, counted from 0 on each connection.
    pub credit_limit: u64,
}

impl Ack {
    /// Reads a body of type ACK.
    ///
    /// # Errors
    /// `protocol` when it is too short or its lane is unknown.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new("ACK", body);
        let lane = fields.u8()?;
        let priority = FramePriority::from_wire(lane)
            .ok_or_else(|| WireError::protocol(format!("priority {lane} of ACK is reserved")))?;
        fields.u16()?;
        Ok(Self {
            priority,
            duplicates: fields.u32()?,
            durable_next: fields.u64()?,
            credit_limit: fields.u64()?,
        })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        encode(out, |body| {
            body.put_slice(&[kind::ACK, self.priority as u8, 0, 0]);
            body.put_u32(self.duplicates);
            body.put_u64(self.durable_next);
            body.put_u64(self.credit_limit);
        });
    }
}
