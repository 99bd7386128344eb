//! The messages of `protocol.md`, encoded and decoded byte by byte.
//!
//! Independent of the crate `wire`, so that a mistake there is not repeated here.

/// Lane 0.
pub const EMERGENCY: usize = 0;
/// Lane 1.
pub const ROUTINE: usize = 1;
/// HELLO flag: no ACKs.
pub const NO_ACK: u16 = 1;
/// HELLO flag: send the catalog.
pub const WANT_CATALOG: u16 = 2;
/// HELLO flag: the client would like to send ZSTD.
pub const ZSTD: u16 = 16;
/// HELLO flag: the name of a forwarder follows the token.
pub const VIA: u16 = 32;

/// The codes of ERROR.
pub mod code {
    pub const PROTOCOL: u16 = 1;
    pub const VERSION: u16 = 2;
    pub const UNAUTHORIZED: u16 = 3;
    pub const FENCED: u16 = 4;
    pub const TAKEN_OVER: u16 = 5;
    pub const BUSY: u16 = 6;
    pub const TOO_LARGE: u16 = 7;
    pub const FLOW_CONTROL: u16 = 8;
    pub const SEQUENCE_REGRESSION: u16 = 9;
    pub const UNKNOWN_TYPE: u16 = 10;
    pub const IDLE: u16 = 11;
    pub const STORAGE_FAILED: u16 = 12;
    pub const DRAINING: u16 = 13;
    pub const FORBIDDEN: u16 = 14;
    pub const LIMIT: u16 = 15;
    pub const BAD_PRIORITY: u16 = 16;
    pub const REMOVED: u16 = 17;

    /// Whether protocol.md marks the code with "(r)".
    pub fn is_retryable(code: u16) -> bool {
        matches!(code, BUSY | IDLE | STORAGE_FAILED | DRAINING | LIMIT)
    }
}

/// The cost of a FRAME with a body of this many bytes.
pub fn cost(body_bytes: usize) -> u64 {
    body_bytes.max(256) as u64
}

/// `body` with its length before it.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// A HELLO. The test can set every field.
#[derive(Clone, Debug)]
pub struct Hello {
    pub version_min: u8,
    pub version_max: u8,
    pub source_kind: u8,
    pub magic: [u8; 4],
    pub source_id: u32,
    pub flags: u16,
    pub heartbeat_s: u16,
    pub epoch: u64,
    pub station: Vec<u8>,
    pub token: Vec<u8>,
    /// Bytes after the last field.
    pub trailing: Vec<u8>,
}

impl Hello {
    /// A live uplink of `source_id` in epoch 1, without station or token.
    pub fn new(source_id: u32) -> Self {
        Self {
            version_min: 1,
            version_max: 1,
            source_kind: 0,
            magic: *b"TMA1",
            source_id,
            flags: 0,
            heartbeat_s: 0,
            epoch: 1,
            station: Vec::new(),
            token: Vec::new(),
            trailing: Vec::new(),
        }
    }

    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    pub fn kind(mut self, source_kind: u8) -> Self {
        self.source_kind = source_kind;
        self
    }

    pub fn heartbeat(mut self, seconds: u16) -> Self {
        self.heartbeat_s = seconds;
        self
    }

    pub fn station(mut self, station: &str) -> Self {
        self.station = station.as_bytes().to_vec();
        self
    }

    pub fn token(mut self, token: &str) -> Self {
        self.token = token.as_bytes().to_vec();
        self
    }

    pub fn versions(mut self, min: u8, max: u8) -> Self {
        (self.version_min, self.version_max) = (min, max);
        self
    }

    /// The body, without the length before it.
    pub fn body(&self) -> Vec<u8> {
        let mut body = vec![0x01, self.version_min, self.version_max, self.source_kind];
        body.extend_from_slice(&self.magic);
        body.extend_from_slice(&self.source_id.to_be_bytes());
        body.extend_from_slice(&self.flags.to_be_bytes());
        body.extend_from_slice(&self.heartbeat_s.to_be_bytes());
        body.extend_from_slice(&self.epoch.to_be_bytes());
        body.push(self.station.len() as u8);
        body.extend_from_slice(&self.station);
        body.extend_from_slice(&(self.token.len() as u16).to_be_bytes());
        body.extend_from_slice(&self.token);
        body.extend_from_slice(&self.trailing);
        body
    }

    /// The message as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        framed(&self.body())
    }
}

/// A FRAME. The test can set every field.
#[derive(Clone, Debug)]
pub struct Frame {
    pub priority: u8,
    pub header_len: u8,
    pub flags: u8,
    pub sequence: u64,
    pub ert_ns: i64,
    /// Bytes between the fixed fields and the payload, as a later version may add them.
    pub extension: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of lane `priority`.
    pub fn new(priority: usize, sequence: u64, payload: &[u8]) -> Self {
        Self {
            priority: priority as u8,
            header_len: 20,
            flags: 0,
            sequence,
            ert_ns: 0,
            extension: Vec::new(),
            payload: payload.to_vec(),
        }
    }

    pub fn body(&self) -> Vec<u8> {
        let mut body = vec![0x03, self.priority, self.header_len, self.flags];
        body.extend_from_slice(&self.sequence.to_be_bytes());
        body.extend_from_slice(&self.ert_ns.to_be_bytes());
        body.extend_from_slice(&self.extension);
        body.extend_from_slice(&self.payload);
        body
    }

    pub fn bytes(&self) -> Vec<u8> {
        framed(&self.body())
    }
}

/// A plain FRAME message.
pub fn frame(priority: usize, sequence: u64, payload: &[u8]) -> Vec<u8> {
    Frame::new(priority, sequence, payload).bytes()
}

pub fn ping(nonce: u64) -> Vec<u8> {
    control_u64(0x05, nonce)
}

pub fn pong(nonce: u64) -> Vec<u8> {
    control_u64(0x06, nonce)
}

fn control_u64(kind: u8, value: u64) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend_from_slice(&value.to_be_bytes());
    framed(&body)
}

pub fn bye(next: [u64; 2]) -> Vec<u8> {
    let mut body = vec![0x07, 0, 0, 0, 0, 0, 0, 0];
    body.extend(next.iter().flat_map(|next| next.to_be_bytes()));
    framed(&body)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub version: u8,
    pub heartbeat_s: u16,
    pub max_message_bytes: u32,
    pub session_id: u64,
    pub epoch: u64,
    pub resume_next: [u64; 2],
    pub server_time_ns: i64,
    /// Absent if HELLO did not ask for ZSTD.
    pub flags: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub lane: usize,
    pub duplicates: u32,
    pub durable_next: u64,
    pub credit_limit: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    pub flags: u8,
    pub code: u16,
    pub retry_after_ms: u32,
    pub detail: u64,
    pub text: String,
}

impl ErrorMessage {
    /// Reads a body of type ERROR.
    pub(super) fn decode(body: &[u8]) -> Self {
        let message = Self {
            flags: body[1],
            code: u16_at(body, 2),
            retry_after_ms: u32_at(body, 4),
            detail: u64_at(body, 8),
            text: text(&body[16..]),
        };
        let retryable = code::is_retryable(message.code);
        assert_eq!(message.flags & 1 == 1, retryable, "retryable bit of {message:?}");
        message
    }
}

/// A message from the server to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    Welcome(Welcome),
    Ack(Ack),
    Ping(u64),
    Pong(u64),
    Bye([u64; 2]),
    GoAway { code: u16, deadline_ms: u32, text: String },
    Error(ErrorMessage),
    Catalog { format: u8, part: u16, parts: u16, version: u64, data: Vec<u8> },
}

impl Server {
    /// Decodes a body.
    ///
    /// The sizes in protocol.md are exact in version 1, so another size is an error of the server.
    pub fn decode(body: &[u8]) -> Self {
        let kind = *body.first().expect("the server sent an empty body");
        let size = |expected: usize| {
            assert_eq!(body.len(), expected, "size of message {kind:#04x}: {body:02x?}");
        };
        match kind {
            0x02 => {
                size(if body.len() == 50 { 50 } else { 48 });
                Self::Welcome(Welcome {
                    version: body[1],
                    heartbeat_s: u16_at(body, 2),
                    max_message_bytes: u32_at(body, 4),
                    session_id: u64_at(body, 8),
                    epoch: u64_at(body, 16),
                    resume_next: [u64_at(body, 24), u64_at(body, 32)],
                    server_time_ns: u64_at(body, 40) as i64,
                    flags: body.get(48..50).map(|flags| u16::from_be_bytes([flags[0], flags[1]])),
                })
            }
            0x04 => {
                size(24);
                assert!(body[1] <= 1, "lane of an ACK: {body:02x?}");
                assert_eq!(&body[2..4], [0, 0], "zero field of an ACK: {body:02x?}");
                Self::Ack(Ack {
                    lane: usize::from(body[1]),
                    duplicates: u32_at(body, 4),
                    durable_next: u64_at(body, 8),
                    credit_limit: u64_at(body, 16),
                })
            }
            0x05 => {
                size(9);
                Self::Ping(u64_at(body, 1))
            }
            0x06 => {
                size(9);
                Self::Pong(u64_at(body, 1))
            }
            0x07 => {
                size(24);
                assert_eq!(&body[1..8], [0; 7], "zero field of a BYE: {body:02x?}");
                Self::Bye([u64_at(body, 8), u64_at(body, 16)])
            }
            0x08 => {
                assert_eq!(body[1], 0, "zero field of a GOAWAY: {body:02x?}");
                Self::GoAway { code: u16_at(body, 2), deadline_ms: u32_at(body, 4), text: text(&body[8..]) }
            }
            0x09 => Self::Error(ErrorMessage::decode(body)),
            0x8A => Self::Catalog {
                format: body[1],
                part: u16_at(body, 2),
                parts: u16_at(body, 4),
                version: u64_at(body, 8),
                data: body[16..].to_vec(),
            },
            other => panic!("the server sent message {other:#04x}, which no source expects: {body:02x?}"),
        }
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("a text of the server is not UTF-8")
}

pub(super) fn u16_at(body: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(body[at..at + 2].try_into().expect("two bytes"))
}

pub(super) fn u32_at(body: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(body: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(body[at..at + 8].try_into().expect("eight bytes"))
}
