//! The wire protocol, version 1: encoding and decoding of every message, in both directions.
//!
//! `docs/protocol.md` is the contract. Every message is `u32 big-endian length | body`, and `body[0]` is its
//! type. Decoding never panics. No length that the peer claims leads to an allocation: payloads are slices of
//! the read buffer. `examples/conversation.rs` encodes and decodes a whole conversation.
//!
//! This crate does no I/O and depends on `frame` only. From tokio it uses [`Instant`](tokio::time::Instant);
//! time is an argument.
//!
//! | file | purpose |
//! |---|---|
//! | `framing.rs` | [`framing`]: cuts a byte stream into bodies and bounds their length |
//! | `fields.rs` | a cursor over one body; "too short" becomes the error of the message |
//! | `hello.rs` | [`hello`] opens a connection: [`Hello`], [`Welcome`] |
//! | `data.rs` | [`data`] carries frames and their acknowledgement: [`FrameMessage`], [`Ack`] |
//! | `packed.rs` | [`packed`], ZSTD: messages of a source that are compressed together (feature `zstd`) |
//! | `control.rs` | [`control`], the rest of the source side: [`Bye`], [`GoAway`], [`ErrorMessage`], [`CatalogPart`] |
//! | `feed.rs` | [`feed`], the subscriber side: [`Subscribe`], [`Deliver`], [`Gap`] |
//! | `error.rs` | [`error`]: what a peer did wrong, as code, detail and text |
//! | `clock.rs` | [`clock`]: when to send PING, and when the peer has been silent for too long |

use bytes::{Bytes, BytesMut};

pub mod clock;
pub mod control;
pub mod data;
pub mod error;
pub mod feed;
mod fields;
pub mod framing;
pub mod hello;
#[cfg(feature = "zstd")]
pub mod packed;
#[cfg(test)]
mod tests;

pub use control::{Bye, CatalogPart, ErrorMessage, GoAway};
pub use data::{Ack, FrameHeader, FrameMessage};
pub use error::{ErrorCode, WireError};
pub use feed::{
    Deliver, FeedMessage, Gap, GapReason, Policy, Start, Subscribe, Subscribed, SubscriberMessage,
};
pub use frame::frame_cost;
pub use framing::{HANDSHAKE_BODY_BYTES_MAX, cut, next_body, take_bodies};
pub use hello::{Hello, HelloFlags, Welcome};

/// The only version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;
/// The first bytes of every HELLO and SUBSCRIBE.
pub const MAGIC: [u8; 4] = *b"TMA1";
/// The only value that no sequence may have: a "next" position could not express it.
pub const SEQUENCE_FORBIDDEN: u64 = u64::MAX;

/// The types of messages, `body[0]`.
pub mod kind {
    #![allow(missing_docs, reason = "the names are protocol.md's headings")]
    pub const HELLO: u8 = 0x01;
    pub const WELCOME: u8 = 0x02;
    pub const FRAME: u8 = 0x03;
    pub const ACK: u8 = 0x04;
    pub const PING: u8 = 0x05;
    pub const PONG: u8 = 0x06;
    pub const BYE: u8 = 0x07;
    pub const GOAWAY: u8 = 0x08;
    pub const ERROR: u8 = 0x09;
    pub const ZSTD: u8 = 0x0A;
    pub const SUBSCRIBE: u8 = 0x10;
    pub const SUBSCRIBED: u8 = 0x11;
    pub const DELIVER: u8 = 0x12;
    pub const GAP: u8 = 0x13;
    pub const CATALOG: u8 = 0x8A;
    pub const PROGRESS: u8 = 0x94;
    /// A peer skips unknown types from here on.
    pub const IGNORABLE_MIN: u8 = 0x80;

    /// The heading of a known type.
    #[must_use]
    pub const fn name(kind: u8) -> Option<&'static str> {
        Some(match kind {
            HELLO => "HELLO",
            WELCOME => "WELCOME",
            FRAME => "FRAME",
            ACK => "ACK",
            PING => "PING",
            PONG => "PONG",
            BYE => "BYE",
            GOAWAY => "GOAWAY",
            ERROR => "ERROR",
            ZSTD => "ZSTD",
            SUBSCRIBE => "SUBSCRIBE",
            SUBSCRIBED => "SUBSCRIBED",
            DELIVER => "DELIVER",
            GAP => "GAP",
            CATALOG => "CATALOG",
            PROGRESS => "PROGRESS",
            _ => return None,
        })
    }
}

/// What a source sends after its HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// Telemetry.
    Frame(FrameMessage),
    /// Asks the daemon for a PONG with this nonce.
    Ping(u64),
    /// Answers a PING with its nonce.
    Pong(u64),
    /// The source has sent all frames.
    Bye(Bye),
    /// A type from 0x80 up that this version does not know.
    Ignored(u8),
}

impl ClientMessage {
    /// Reads one body that came after HELLO.
    ///
    /// # Errors
    /// The [`WireError`] for the answer.
    pub fn decode(body: Bytes) -> Result<Self, WireError> {
        match first_byte(&body)? {
            kind::FRAME => FrameMessage::decode(body).map(Self::Frame),
            _ => Self::decode_control(&body),
        }
    }

    /// Reads one body that came after HELLO and is not a FRAME.
    ///
    /// # Errors
    /// The [`WireError`] for the answer.
    pub fn decode_control(body: &[u8]) -> Result<Self, WireError> {
        match first_byte(body)? {
            kind::PING => control::decode_nonce(body).map(Self::Ping),
            kind::PONG => control::decode_nonce(body).map(Self::Pong),
            kind::BYE => Bye::decode(body).map(Self::Bye),
            other => unexpected(other).map(Self::Ignored),
        }
    }

    /// Appends the message with its length prefix. [`ClientMessage::Ignored`] writes a body of one byte.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Frame(frame) => frame.encode(out),
            Self::Ping(nonce) => control::encode_nonce(kind::PING, *nonce, out),
            Self::Pong(nonce) => control::encode_nonce(kind::PONG, *nonce, out),
            Self::Bye(bye) => bye.encode(out),
            Self::Ignored(kind) => framing::encode(out, |body| bytes::BufMut::put_u8(body, *kind)),
        }
    }
}

/// What the daemon sends on a source connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// The answer to HELLO.
    Welcome(Welcome),
    /// Durable position and credit of one lane.
    Ack(Ack),
    /// Asks the client for a PONG with this nonce.
    Ping(u64),
    /// Answers a PING with its nonce.
    Pong(u64),
    /// Every accepted frame is durable.
    Bye(Bye),
    /// The daemon is draining.
    GoAway(GoAway),
    /// The last message before the daemon closes.
    Error(ErrorMessage),
    /// A part of the catalog.
    Catalog(CatalogPart),
    /// A type from 0x80 up that this version does not know.
    Ignored(u8),
}

impl ServerMessage {
    /// Reads one body sent by a daemon.
    ///
    /// # Errors
    /// [`WireError`] that names the violation of the protocol.
    pub fn decode(body: Bytes) -> Result<Self, WireError> {
        match first_byte(&body)? {
            kind::WELCOME => Welcome::decode(&body).map(Self::Welcome),
            kind::ACK => Ack::decode(&body).map(Self::Ack),
            kind::PING => control::decode_nonce(&body).map(Self::Ping),
            kind::PONG => control::decode_nonce(&body).map(Self::Pong),
            kind::BYE => Bye::decode(&body).map(Self::Bye),
            kind::GOAWAY => GoAway::decode(&body).map(Self::GoAway),
            kind::ERROR => ErrorMessage::decode(&body).map(Self::Error),
            kind::CATALOG => CatalogPart::decode(body).map(Self::Catalog),
            other => unexpected(other).map(Self::Ignored),
        }
    }

    /// Appends the message with its length prefix. [`ServerMessage::Ignored`] writes a body of one byte.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Welcome(welcome) => welcome.encode(out),
            Self::Ack(ack) => ack.encode(out),
            Self::Ping(nonce) => control::encode_nonce(kind::PING, *nonce, out),
            Self::Pong(nonce) => control::encode_nonce(kind::PONG, *nonce, out),
            Self::Bye(bye) => bye.encode(out),
            Self::GoAway(goaway) => goaway.encode(out),
            Self::Error(error) => error.encode(out),
            Self::Catalog(part) => part.encode(out),
            Self::Ignored(kind) => framing::encode(out, |body| bytes::BufMut::put_u8(body, *kind)),
        }
    }
}

fn first_byte(body: &[u8]) -> Result<u8, WireError> {
    body.first().copied().ok_or_else(|| WireError::protocol("empty message body"))
}

/// Checks a type that is not expected. Known types come in the wrong direction or state. Unknown types are
/// errors below 0x80 and are skipped from 0x80 on.
fn unexpected(kind: u8) -> Result<u8, WireError> {
    match kind::name(kind) {
        Some(name) => Err(WireError::protocol(format!("unexpected {name} (0x{kind:02x}) here"))),
        None if kind >= kind::IGNORABLE_MIN => Ok(kind),
        None => Err(WireError::new(ErrorCode::UnknownType, format!("unknown message type 0x{kind:02x}"))),
    }
}
