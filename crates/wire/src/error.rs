//! Mistakes of a peer, as a code, a detail and a text for people.

use std::fmt;

/// The codes of ERROR (and of GOAWAY, which uses [`ErrorCode::Draining`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs, reason = "the names are protocol.md's")]
pub enum ErrorCode {
    Protocol = 1,
    Version = 2,
    Unauthorized = 3,
    /// The epoch is older than the stream's current epoch. The detail is the current epoch.
    Fenced = 4,
    TakenOver = 5,
    /// A limit of connections or takeovers is reached.
    Busy = 6,
    /// The detail is the length.
    TooLarge = 7,
    FlowControl = 8,
    /// The detail is the previous sequence.
    SequenceRegression = 9,
    UnknownType = 10,
    Idle = 11,
    StorageFailed = 12,
    Draining = 13,
    /// This credential may not speak for this source.
    Forbidden = 14,
    /// A rate, quota or number of streams is reached.
    Limit = 15,
    BadPriority = 16,
    /// An operator removed the source.
    Removed = 17,
}

impl ErrorCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Protocol,
        Self::Version,
        Self::Unauthorized,
        Self::Fenced,
        Self::TakenOver,
        Self::Busy,
        Self::TooLarge,
        Self::FlowControl,
        Self::SequenceRegression,
        Self::UnknownType,
        Self::Idle,
        Self::StorageFailed,
        Self::Draining,
        Self::Forbidden,
        Self::Limit,
        Self::BadPriority,
        Self::Removed,
    ];

    /// Reads the wire value; `None` for a code of a later version.
    #[must_use]
    pub fn from_wire(value: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u16 == value)
    }

    /// Whether another attempt later can help.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Idle | Self::StorageFailed | Self::Draining | Self::Limit)
    }

    /// The name of the code in protocol.md. It is also the label of rejects.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Version => "version",
            Self::Unauthorized => "unauthorized",
            Self::Fenced => "fenced",
            Self::TakenOver => "taken_over",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::FlowControl => "flow_control",
            Self::SequenceRegression => "sequence_regression",
            Self::UnknownType => "unknown_type",
            Self::Idle => "idle",
            Self::StorageFailed => "storage_failed",
            Self::Draining => "draining",
            Self::Forbidden => "forbidden",
            Self::Limit => "limit",
            Self::BadPriority => "bad_priority",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A reason to end a connection. It becomes an ERROR on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct WireError {
    /// The code.
    pub code: ErrorCode,
    /// The number that belongs to the code; 0 where protocol.md names none.
    pub detail: u64,
    /// Text for people. It names the offending value.
    pub text: String,
}

impl WireError {
    /// An error whose code has no detail.
    #[must_use]
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, detail: 0, text: text.into() }
    }

    /// An error with the code `protocol`: the peer violates the protocol.
    #[must_use]
    pub fn protocol(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::Protocol, text)
    }

    /// Sets the detail.
    #[must_use]
    pub fn with_detail(mut self, detail: u64) -> Self {
        self.detail = detail;
        self
    }
}
