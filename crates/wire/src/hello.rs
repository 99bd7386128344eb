//! HELLO and WELCOME: which source speaks, and where it continues.

use std::fmt;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::fields::Fields;
use super::framing::encode;
use super::{ErrorCode, MAGIC, VERSION, WireError, kind};
use frame::{ANONYMOUS_EPOCH_MIN, Lanes, SourceKind, Station, StreamKey};

/// Longest credential in bytes.
pub const TOKEN_BYTES_MAX: usize = 1024;
/// Shortest heartbeat a client can ask for.
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// Longest heartbeat a client can ask for.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// Options that a client asks for. Unknown bits are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelloFlags(pub u16);

impl HelloFlags {
    /// No ACKs and no credit: only TCP slows the client.
    pub const NO_ACK: Self = Self(1);
    /// The daemon sends the catalog, and each new version of it.
    pub const WANT_CATALOG: Self = Self(2);
    /// Both lanes take their sequences from one counter: a sequence missing in one lane may be in the other.
    pub const SHARED_SEQUENCE: Self = Self(4);
    /// The client would like to send ZSTD.
    pub const ZSTD: Self = Self(16);
    /// The name of a forwarder follows the token. [`Hello::encode`] sets it.
    pub const VIA: Self = Self(32);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// HELLO: the first message of a source.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// Lowest version the client speaks.
    pub version_min: u8,
    /// Highest version the client speaks.
    pub version_max: u8,
    /// The stream this connection carries.
    pub stream: StreamKey,
    /// Options that the client asks for.
    pub flags: HelloFlags,
    /// Requested heartbeat in seconds; 0 = the default of the server.
    pub heartbeat_s: u16,
    /// The sender's sequence space, 0 = none.
    pub epoch: u64,
    /// Credential, may be empty.
    pub token: String,
    /// The name of the daemon that forwards this stream, by the rules of a station's name. Empty for a client that has
    /// the frames from the spacecraft.
    pub via: Station,
}

impl fmt::Debug for Hello {
    /// The token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("stream", &self.stream)
            .field("versions", &(self.version_min..=self.version_max))
            .field("flags", &self.flags)
            .field("heartbeat_s", &self.heartbeat_s)
            .field("epoch", &self.epoch)
            .field("via", &self.via)
            .finish_non_exhaustive()
    }
}

impl Hello {
    /// The HELLO of a client that speaks [`VERSION`], without options and without a token.
    #[must_use]
    pub fn new(stream: StreamKey, epoch: u64) -> Self {
        let flags = HelloFlags::default();
        let (token, via) = (String::new(), Station::default());
        Self { version_min: VERSION, version_max: VERSION, stream, flags, heartbeat_s: 0, epoch, token, via }
    }

    /// Reads the first body of a source connection.
    ///
    /// The version is checked right after the magic, because a later version may change the bytes behind it.
    ///
    /// # Errors
    /// `version` when the peer does not speak [`VERSION`], else `protocol`.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        match body.first() {
            Some(&kind::HELLO) => {}
            Some(other) => {
                let name = kind::name(*other).unwrap_or("a message");
                return Err(WireError::protocol(format!("{name} (0x{other:02x}) before HELLO")));
            }
            None => return Err(WireError::protocol("empty message body before HELLO")),
        }
        let mut fields = Fields::new("HELLO", body);
        let (version_min, version_max) = (fields.u8()?, fields.u8()?);
        let source_kind = fields.u8()?;
        check_magic(fields.array()?)?;
        check_version(version_min, version_max)?;
        let source_kind = SourceKind::from_wire(source_kind)
            .ok_or_else(|| WireError::protocol(format!("source kind {source_kind} is reserved")))?;
        let source_id = fields.u32()?;
        let flags = HelloFlags(fields.u16()?);
        let heartbeat_s = fields.u16()?;
        let epoch = fields.u64()?;
        if epoch >= ANONYMOUS_EPOCH_MIN {
            return Err(WireError::protocol(format!("epoch {epoch} is 2^63 or more")));
        }
        let station_len = usize::from(fields.u8()?);
        let station = Station::new(fields.text("station", station_len)?)
            .map_err(|error| WireError::protocol(error.to_string()))?;
        let token_len = usize::from(fields.u16()?);
        if token_len > TOKEN_BYTES_MAX {
            return Err(WireError::protocol(format!(
                "token of {token_len} bytes, at most {TOKEN_BYTES_MAX} are allowed"
            )));
        }
        let token = fields.text("token", token_len)?.to_owned();
        let via_len = if flags.contains(HelloFlags::VIA) { usize::from(fields.u8()?) } else { 0 };
        let via = Station::new(fields.text("forwarder", via_len)?)
            .map_err(|error| WireError::protocol(error.to_string().replacen("station", "forwarder", 1)))?;
        let stream = StreamKey { source_id, source_kind, station };
        Ok(Self { version_min, version_max, stream, flags, heartbeat_s, epoch, token, via })
    }

    /// Appends the message with its length prefix. A token longer than [`TOKEN_BYTES_MAX`] is cut off.
    pub fn encode(&self, out: &mut BytesMut) {
        let station = self.stream.station.as_str().as_bytes();
        let token = &self.token.as_bytes()[..self.token.len().min(TOKEN_BYTES_MAX)];
        let flags = if self.via.as_str().is_empty() { self.flags } else { self.flags.and(HelloFlags::VIA) };
        encode(out, |body| {
            body.put_slice(&[kind::HELLO, self.version_min, self.version_max, self.stream.source_kind as u8]);
            body.put_slice(&MAGIC);
            body.put_u32(self.stream.source_id);
            body.put_u16(flags.0);
            body.put_u16(self.heartbeat_s);
            body.put_u64(self.epoch);
            body.put_u8(station.len() as u8);
            body.put_slice(station);
            body.put_u16(token.len() as u16);
            body.put_slice(token);
            if flags.contains(HelloFlags::VIA) {
                body.put_u8(self.via.as_str().len() as u8);
                body.put_slice(self.via.as_str().as_bytes());
            }
        });
    }

    /// The heartbeat in force for this request: the default of the server for 0, else 1 to 300 s.
    #[must_use]
    pub fn heartbeat(&self, default: Duration) -> Duration {
        match self.heartbeat_s {
            0 => default,
            requested => Duration::from_secs(u64::from(requested)).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX),
        }
    }
}

pub(super) fn check_magic(magic: [u8; 4]) -> Result<(), WireError> {
    if magic == MAGIC {
        return Ok(());
    }
    Err(WireError::protocol(format!("magic {:?} is not {:?}", magic.escape_ascii().to_string(), "TMA1")))
}

pub(super) fn check_version(min: u8, max: u8) -> Result<(), WireError> {
    if (min..=max).contains(&VERSION) {
        return Ok(());
    }
    Err(WireError::new(
        ErrorCode::Version,
        format!("client speaks versions {min} to {max}, this server speaks {VERSION}"),
    ))
}

/// WELCOME: the answer to HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version chosen.
    pub version: u8,
    /// The heartbeat in force for both sides, seconds.
    pub heartbeat_s: u16,
    /// Longest body in both directions after this message.
    pub max_message_bytes: u32,
    /// Unique while the daemon runs.
    pub session_id: u64,
    /// The epoch in force.
    pub epoch: u64,
    /// The client sends from these sequences on. Lower ones of this stream and epoch were accepted.
    pub resume_next: Lanes<u64>,
    /// Unix time of the server.
    pub server_time_ns: i64,
    /// Whether the server takes ZSTD. `None` if HELLO did not ask.
    pub takes_zstd: Option<bool>,
}

impl Welcome {
    /// Reads a body of type WELCOME.
    ///
    /// # Errors
    /// `protocol` when it is too short.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new("WELCOME", body);
        Ok(Self {
            version: fields.u8()?,
            heartbeat_s: fields.u16()?,
            max_message_bytes: fields.u32()?,
            session_id: fields.u64()?,
            epoch: fields.u64()?,
            resume_next: fields.lanes()?,
            server_time_ns: fields.i64()?,
            takes_zstd: fields.u16().ok().map(|flags| flags & 1 == 1),
        })
    }

    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut BytesMut) {
        encode(out, |body| {
            body.put_slice(&[kind::WELCOME, self.version]);
            body.put_u16(self.heartbeat_s);
            body.put_u32(self.max_message_bytes);
            body.put_u64(self.session_id);
            body.put_u64(self.epoch);
            body.put_u64(self.resume_next.emergency);
            body.put_u64(self.resume_next.routine);
            body.put_i64(self.server_time_ns);
            if let Some(takes_zstd) = self.takes_zstd {
                body.put_u16(u16::from(takes_zstd));
            }
        });
    }
}
