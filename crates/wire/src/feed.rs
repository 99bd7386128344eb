//! The subscriber side: SUBSCRIBE, SUBSCRIBED, DELIVER, GAP, PROGRESS.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::control::{decode_nonce, encode_nonce};
use super::fields::Fields;
use super::framing::encode;
use super::{ErrorMessage, WireError, first_byte, kind, unexpected};

mod deliver;
mod subscribe;
#[cfg(test)]
mod tests;

pub use deliver::{Deliver, deliver_bytes};
pub use subscribe::{Policy, Start, Subscribe, Subscribed};

/// Most sources that a SUBSCRIBE may name.
pub const SOURCES_MAX: usize = 512;
/// A DELIVER may exceed the longest message of the source side by this many bytes.
pub const DELIVER_EXCESS_BYTES: usize = 96;

/// Why offsets are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GapReason {
    /// The subscriber is timely and was too slow.
    Skipped = 1,
    /// Retention has removed the frames.
    Expired = 2,
    /// The frames cannot be read.
    Damaged = 3,
}

impl GapReason {
    /// The name that logs and clients use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Expired => "expired",
            Self::Damaged => "damaged",
        }
    }
}

/// GAP: these offsets are not delivered, for any filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The reason.
    pub reason: GapReason,
    /// The missing offsets.
    pub offsets: Range<u64>,
}

impl Gap {
    /// Reads a body of type GAP.
    ///
    /// # Errors
    /// `protocol` when it is too short or its reason is reserved.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new("GAP", body);
        let reason = match fields.u8()? {
            1 => GapReason::Skipped,
            2 => GapReason::Expired,
            3 => GapReason::Damaged,
            other => return Err(WireError::protocol(format!("reason {other} of GAP is reserved"))),
        };
        fields.bytes(6)?;
        Ok(Self { reason, offsets: fields.u64()?..fields.u64()? })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        encode(out, |body| {
            body.put_slice(&[kind::GAP, self.reason as u8, 0, 0, 0, 0, 0, 0]);
            body.put_u64(self.offsets.start);
            body.put_u64(self.offsets.end);
        });
    }
}

fn decode_progress(body: &[u8]) -> Result<u64, WireError> {
    let mut fields = Fields::new("PROGRESS", body);
    fields.bytes(7)?;
    fields.u64()
}

fn encode_progress(next_offset: u64, out: &mut BytesMut) {
    encode(out, |body| {
        body.put_slice(&[kind::PROGRESS, 0, 0, 0, 0, 0, 0, 0]);
        body.put_u64(next_offset);
    });
}

/// What a subscriber sends after its SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberMessage {
    /// Asks the daemon for a PONG with this nonce.
    Ping(u64),
    /// Answers a PING with its nonce.
    Pong(u64),
    /// A type from 0x80 up that this version does not know.
    Ignored(u8),
}

impl SubscriberMessage {
    /// Reads one body that came after SUBSCRIBE.
    ///
    /// # Errors
    /// The [`WireError`] for the answer.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        match first_byte(body)? {
            kind::PING => decode_nonce(body).map(Self::Ping),
            kind::PONG => decode_nonce(body).map(Self::Pong),
            other => unexpected(other).map(Self::Ignored),
        }
    }

    /// Appends the message with its length prefix. [`SubscriberMessage::Ignored`] writes a body of one byte.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Ping(nonce) => encode_nonce(kind::PING, *nonce, out),
            Self::Pong(nonce) => encode_nonce(kind::PONG, *nonce, out),
            Self::Ignored(kind) => encode(out, |body| body.put_u8(*kind)),
        }
    }
}

/// What the daemon sends on a feed connection.
#[derive(Clone, Debug)]
pub enum FeedMessage {
    /// The answer to SUBSCRIBE.
    Subscribed(Subscribed),
    /// A frame.
    Deliver(Deliver),
    /// Offsets that are not delivered.
    Gap(Gap),
    /// Every frame below this offset was delivered, filtered out or named in a GAP.
    Progress(u64),
    /// Asks the subscriber for a PONG with this nonce.
    Ping(u64),
    /// Answers a PING with its nonce.
    Pong(u64),
    /// The last message before the daemon closes.
    Error(ErrorMessage),
    /// A type from 0x80 up that this version does not know.
    Ignored(u8),
}

impl FeedMessage {
    /// Reads one body sent by a daemon.
    ///
    /// # Errors
    /// [`WireError`] that names the violation of the protocol.
    pub fn decode(body: Bytes) -> Result<Self, WireError> {
        match first_byte(&body)? {
            kind::SUBSCRIBED => Subscribed::decode(&body).map(Self::Subscribed),
            kind::DELIVER => Deliver::decode(body).map(Self::Deliver),
            kind::GAP => Gap::decode(&body).map(Self::Gap),
            kind::PROGRESS => decode_progress(&body).map(Self::Progress),
            kind::PING => decode_nonce(&body).map(Self::Ping),
            kind::PONG => decode_nonce(&body).map(Self::Pong),
            kind::ERROR => ErrorMessage::decode(&body).map(Self::Error),
            other => unexpected(other).map(Self::Ignored),
        }
    }

    /// Appends the message with its length prefix. [`FeedMessage::Ignored`] writes a body of one byte.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Subscribed(subscribed) => subscribed.encode(out),
            Self::Deliver(deliver) => Deliver::encode(deliver.offset, &deliver.frame, out),
            Self::Gap(gap) => gap.encode(out),
            Self::Progress(next_offset) => encode_progress(*next_offset, out),
            Self::Ping(nonce) => encode_nonce(kind::PING, *nonce, out),
            Self::Pong(nonce) => encode_nonce(kind::PONG, *nonce, out),
            Self::Error(error) => error.encode(out),
            Self::Ignored(kind) => encode(out, |body| body.put_u8(*kind)),
        }
    }
}
