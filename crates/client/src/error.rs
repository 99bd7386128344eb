//! Why a source ended before everything it sent was acknowledged.

use frame::FramePriority;
use wire::{ErrorCode, WireError};

/// The end of one source; the others go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum SourceError {
    /// ERROR without the retryable bit.
    #[error("refused by the server: {}: {text}", code_name(*code))]
    Refused { code: u16, detail: u64, text: String },
    /// What the server knows of this epoch was not sent by this run.
    #[error(
        "{lane} resumes at {resume_next}, above {sent_next} where this run is: the epoch was used before, \
         choose a higher one"
    )]
    StateLost { lane: FramePriority, resume_next: u64, sent_next: u64 },
    /// The server lost what it had promised to keep.
    #[error(
        "{lane} resumes at {resume_next}, but {durable_next} was acknowledged as durable: the server lost it, or an \
         operator had it forget this stream; begin with a higher epoch"
    )]
    PromiseBroken { lane: FramePriority, resume_next: u64, durable_next: u64 },
    /// The server acknowledges what it cannot have.
    #[error("{lane} is acknowledged up to {durable_next}, sent is {sent_next}")]
    AckedUnsent { lane: FramePriority, durable_next: u64, sent_next: u64 },
    /// The server's bytes do not fit the protocol.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(#[from] WireError),
    /// A frame of this feed can never be sent here.
    #[error("frames of up to {body_bytes} bytes, the server takes {max_message_bytes}")]
    FrameTooLarge { body_bytes: usize, max_message_bytes: u32 },
    /// The feed was over and the linger time passed.
    #[error("{missing} frames not acknowledged at the end ({trouble})")]
    Missing { missing: u64, trouble: String },
    /// The feed was over while there was no connection, with frames that were due and never sent.
    #[error("shut out: {sent} of {due} frames sent when the feed ended ({trouble})")]
    ShutOut { sent: u64, due: u64, trouble: String },
    /// The feed was over before the first WELCOME.
    #[error("never connected ({trouble})")]
    NeverConnected { trouble: String },
}

/// The name of a code, or its number where a later version added it.
pub fn code_name(code: u16) -> String {
    ErrorCode::from_wire(code).map_or_else(|| format!("code {code}"), |code| code.to_string())
}
