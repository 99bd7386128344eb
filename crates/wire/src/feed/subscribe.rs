//! SUBSCRIBE and SUBSCRIBED: the frames that a subscriber wants, and where it begins.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::SOURCES_MAX;
use crate::fields::Fields;
use crate::framing::encode;
use crate::hello::{TOKEN_BYTES_MAX, check_magic, check_version};
use crate::{MAGIC, VERSION, WireError, kind};
use frame::{FramePriority, Selection, SourceKind};

/// What happens when a subscriber is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// No frame is skipped: the archive serves a slow subscriber.
    Complete = 0,
    /// A slow subscriber skips to the newest frame. A GAP names the skipped offsets.
    Timely = 1,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next durable frame.
    Live,
    /// At an offset.
    Offset {
        /// The offset.
        offset: u64,
        /// The log of the offset; 0 = any.
        log_id: u64,
    },
    /// At the lowest offset that was received at this time or later.
    Received {
        /// Unix nanoseconds.
        from_ns: i64,
    },
    /// With the oldest frame in the archive.
    Earliest,
}

/// SUBSCRIBE: the first message of a feed connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Lowest version the client speaks.
    pub version_min: u8,
    /// Highest version the client speaks.
    pub version_max: u8,
    /// What happens when the subscriber is too slow.
    pub policy: Policy,
    /// Where the subscription begins.
    pub start: Start,
    /// The wanted frames; at most [`SOURCES_MAX`] sources.
    pub selection: Selection,
    /// Credential, may be empty.
    pub token: String,
}

impl fmt::Debug for Subscribe {
    /// The token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("policy", &self.policy)
            .field("start", &self.start)
            .field("selection", &self.selection)
            .finish_non_exhaustive()
    }
}

impl Subscribe {
    /// A SUBSCRIBE in the only version that this crate speaks, without a token.
    #[must_use]
    pub fn new(policy: Policy, start: Start, selection: Selection) -> Self {
        Self { version_min: VERSION, version_max: VERSION, policy, start, selection, token: String::new() }
    }

    /// Reads the first body of a feed connection.
    ///
    /// # Errors
    /// `version` when the peer does not speak [`VERSION`], else `protocol`.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        match body.first() {
            Some(&kind::SUBSCRIBE) => {}
            Some(other) => {
                let name = kind::name(*other).unwrap_or("a message");
                return Err(WireError::protocol(format!("{name} (0x{other:02x}) before SUBSCRIBE")));
            }
            None => return Err(WireError::protocol("empty message body before SUBSCRIBE")),
        }
        let mut fields = Fields::new("SUBSCRIBE", body);
        let (version_min, version_max) = (fields.u8()?, fields.u8()?);
        let policy = fields.u8()?;
        check_magic(fields.array()?)?;
        check_version(version_min, version_max)?;
        let policy = match policy {
            0 => Policy::Complete,
            1 => Policy::Timely,
            other => return Err(WireError::protocol(format!("policy {other} is reserved"))),
        };
        let start = fields.u8()?;
        let priority = choice("priorities", fields.u8()?, FramePriority::ALL)?;
        let kind = choice("kinds", fields.u8()?, [SourceKind::LiveUplink, SourceKind::ArchivedReplay])?;
        fields.u8()?;
        let source_count = usize::from(fields.u16()?);
        if source_count > SOURCES_MAX {
            return Err(WireError::protocol(format!(
                "{source_count} sources, at most {SOURCES_MAX} are allowed"
            )));
        }
        let token_len = usize::from(fields.u16()?);
        if token_len > TOKEN_BYTES_MAX {
            return Err(WireError::protocol(format!(
                "token of {token_len} bytes, at most {TOKEN_BYTES_MAX} are allowed"
            )));
        }
        let (position, log_id) = (fields.u64()?, fields.u64()?);
        let start = match start {
            0 => Start::Live,
            1 => Start::Offset { offset: position, log_id },
            2 => Start::Received { from_ns: i64::try_from(position).unwrap_or(i64::MAX) },
            3 => Start::Earliest,
            other => return Err(WireError::protocol(format!("start {other} is reserved"))),
        };
        let sources: Vec<u32> = (0..source_count).map(|_| fields.u32()).collect::<Result<_, _>>()?;
        let selection = Selection::of_sources(sources).with_priority(priority).with_kind(kind);
        let token = fields.text("token", token_len)?.to_owned();
        Ok(Self { version_min, version_max, policy, start, selection, token })
    }

    /// Appends the message with its length prefix. Sources beyond [`SOURCES_MAX`] and the end of a too long
    /// token are cut off.
    pub fn encode(&self, out: &mut BytesMut) {
        let sources = &self.selection.sources()[..self.selection.sources().len().min(SOURCES_MAX)];
        let token = &self.token.as_bytes()[..self.token.len().min(TOKEN_BYTES_MAX)];
        let (start, position, log_id) = match self.start {
            Start::Live => (0, 0, 0),
            Start::Offset { offset, log_id } => (1, offset, log_id),
            Start::Received { from_ns } => (2, u64::try_from(from_ns).unwrap_or(0), 0),
            Start::Earliest => (3, 0, 0),
        };
        let priorities = self.selection.priority.map_or(0, |priority| 1 << priority as u8);
        let kinds = self.selection.kind.map_or(0, |kind| 1 << kind as u8);
        encode(out, |body| {
            body.put_slice(&[kind::SUBSCRIBE, self.version_min, self.version_max, self.policy as u8]);
            body.put_slice(&MAGIC);
            body.put_slice(&[start, priorities, kinds, 0]);
            body.put_u16(sources.len() as u16);
            body.put_u16(token.len() as u16);
            body.put_u64(position);
            body.put_u64(log_id);
            sources.iter().for_each(|source| body.put_u32(*source));
            body.put_slice(token);
        });
    }
}

/// The choice of a bit mask over two values; `None` means both. Bits of a later version choose nothing.
fn choice<T>(field: &str, mask: u8, [first, second]: [T; 2]) -> Result<Option<T>, WireError> {
    match (mask, mask & 0b11) {
        (0, _) | (_, 0b11) => Ok(None),
        (_, 0b01) => Ok(Some(first)),
        (_, 0b10) => Ok(Some(second)),
        _ => Err(WireError::protocol(format!("{field} 0x{mask:02x} of SUBSCRIBE has no known bit"))),
    }
}

/// SUBSCRIBED: the answer to SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The version chosen.
    pub version: u8,
    /// The heartbeat in force for both sides, seconds.
    pub heartbeat_s: u16,
    /// Longest body of the source side; a DELIVER may exceed it by [`super::DELIVER_EXCESS_BYTES`].
    pub max_message_bytes: u32,
    /// The log that offsets belong to.
    pub log_id: u64,
    /// Offset the subscription begins with.
    pub start_offset: u64,
    /// Offset behind the newest durable frame.
    pub head_offset: u64,
}

impl Subscribed {
    /// Reads a body of type SUBSCRIBED.
    ///
    /// # Errors
    /// `protocol` when it is too short.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new("SUBSCRIBED", body);
        Ok(Self {
            version: fields.u8()?,
            heartbeat_s: fields.u16()?,
            max_message_bytes: fields.u32()?,
            log_id: fields.u64()?,
            start_offset: fields.u64()?,
            head_offset: fields.u64()?,
        })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        encode(out, |body| {
            body.put_slice(&[kind::SUBSCRIBED, self.version]);
            body.put_u16(self.heartbeat_s);
            body.put_u32(self.max_message_bytes);
            body.put_u64(self.log_id);
            body.put_u64(self.start_offset);
            body.put_u64(self.head_offset);
        });
    }
}
