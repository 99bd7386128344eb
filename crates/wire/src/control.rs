//! All messages besides the handshake and telemetry: PING, PONG, BYE, GOAWAY, ERROR, CATALOG.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use frame::Lanes;

use super::framing::encode;
use super::{ErrorCode, WireError, fields::Fields, kind};

/// Bytes of CATALOG before its data.
const CATALOG_HEADER_BYTES: usize = 16;

/// Reads PING or PONG, `type u8, nonce u64`.
pub(super) fn decode_nonce(body: &[u8]) -> Result<u64, WireError> {
    let message = if body.first() == Some(&kind::PING) { "PING" } else { "PONG" };
    Fields::new(message, body).u64()
}

/// Appends PING or PONG with its length prefix.
pub(super) fn encode_nonce(kind: u8, nonce: u64, out: &mut BytesMut) {
    encode(out, |body| {
        body.put_u8(kind);
        body.put_u64(nonce);
    });
}

/// BYE: from a client, one past the last sequence sent per lane; from the daemon, the durable positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bye {
    /// One past the last sequence, per lane.
    pub next: Lanes<u64>,
}

impl Bye {
    /// Reads a body of type BYE.
    ///
    /// # Errors
    /// `protocol` when it is too short.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new("BYE", body);
        fields.bytes(7)?;
        Ok(Self { next: fields.lanes()? })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        encode(out, |body| {
            body.put_slice(&[kind::BYE, 0, 0, 0, 0, 0, 0, 0]);
            body.put_u64(self.next.emergency);
            body.put_u64(self.next.routine);
        });
    }
}

/// GOAWAY: the daemon is draining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// Time that the client has, from receipt.
    pub deadline: Duration,
    /// Text for people.
    pub text: String,
}

impl GoAway {
    /// Reads a body of type GOAWAY. Its code is always `draining` in this version and is not kept.
    ///
    /// # Errors
    /// `protocol` when it is too short.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new("GOAWAY", body);
        fields.u8()?;
        fields.u16()?;
        let deadline = Duration::from_millis(u64::from(fields.u32()?));
        Ok(Self { deadline, text: fields.rest_lossy() })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        encode(out, |body| {
            body.put_slice(&[kind::GOAWAY, 0]);
            body.put_u16(ErrorCode::Draining as u16);
            body.put_u32(millis(self.deadline));
            body.put_slice(self.text.as_bytes());
        });
    }
}

/// ERROR: the last message before the daemon closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    /// The code as on the wire. [`ErrorCode::from_wire`] knows the codes of this version.
    pub code: u16,
    /// Whether another attempt can help.
    pub retryable: bool,
    /// Shortest wait before another attempt.
    pub retry_after: Duration,
    /// The number that belongs to the code.
    pub detail: u64,
    /// Text for people.
    pub text: String,
}

impl ErrorMessage {
    /// The message for `error`. Only retryable codes carry `retry_after`.
    #[must_use]
    pub fn new(error: &WireError, retry_after: Duration) -> Self {
        let retryable = error.code.is_retryable();
        Self {
            code: error.code as u16,
            retryable,
            retry_after: if retryable { retry_after } else { Duration::ZERO },
            detail: error.detail,
            text: error.text.clone(),
        }
    }

    /// Reads a body of type ERROR.
    ///
    /// # Errors
    /// `protocol` when it is too short.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new("ERROR", body);
        let retryable = fields.u8()? & 1 == 1;
        let code = fields.u16()?;
        let retry_after = Duration::from_millis(u64::from(fields.u32()?));
        let detail = fields.u64()?;
        Ok(Self { code, retryable, retry_after, detail, text: fields.rest_lossy() })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        encode(out, |body| {
            body.put_slice(&[kind::ERROR, u8::from(self.retryable)]);
            body.put_u16(self.code);
            body.put_u32(millis(self.retry_after));
            body.put_u64(self.detail);
            body.put_slice(self.text.as_bytes());
        });
    }
}

/// CATALOG: one part of a version of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogPart {
    /// 0 = TLE text.
    pub format: u8,
    /// Number of this part, from 0.
    pub part: u16,
    /// Number of parts.
    pub parts: u16,
    /// Version of the whole catalog.
    pub version: u64,
    /// This part's bytes.
    pub data: Bytes,
}

impl CatalogPart {
    /// Reads a body of type CATALOG.
    ///
    /// # Errors
    /// `protocol` when it is too short.
    pub fn decode(mut body: Bytes) -> Result<Self, WireError> {
        let mut fields = Fields::new("CATALOG", &body);
        let (format, part, parts) = (fields.u8()?, fields.u16()?, fields.u16()?);
        fields.u16()?;
        let version = fields.u64()?;
        body.advance(CATALOG_HEADER_BYTES);
        Ok(Self { format, part, parts, version, data: body })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        encode(out, |body| {
            body.put_slice(&[kind::CATALOG, self.format]);
            body.put_u16(self.part);
            body.put_u16(self.parts);
            body.put_u16(0);
            body.put_u64(self.version);
            body.put_slice(&self.data);
        });
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
