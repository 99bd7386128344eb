//! Why a source ended before everything it sent was acknowledged.

use frame::FramePriority;
use wire::{ErrorCode, WireError};

/// The end of one source. Other sources continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum SourceError {
    /// The server sent ERROR without the retryable bit.
    #[error("refused by the server: {}: {text}", code_name(*code))]
    Refused { code: u16, detail: u64, text: String },
    /// The server knows frames of this epoch that this run has not sent.
    #[error(
        "{lane} resumes at {resume_next}, above {sent_next} where this run is: the epoch was used before, \
         choose a higher one"
    )]
    StateLost { lane: FramePriority, resume_next: u64, sent_next: u64 },
    /// The server lost frames that it had acknowledged as durable.
    #[error(
        "{lane} resumes at {resume_next}, but {durable_next} was acknowledged as durable: the server lost these \
         frames, or an operator made it forget this stream; begin with a higher epoch"
    )]
    PromiseBroken { lane: FramePriority, resume_next: u64, durable_next: u64 },
    /// The server acknowledges frames that it cannot have.
    #[error("{lane} is acknowledged up to {durable_next}, but only frames up to {sent_next} were sent")]
    AckedUnsent { lane: FramePriority, durable_next: u64, sent_next: u64 },
    /// The server's bytes do not fit the protocol.
    #[error("the server breaks the protocol: {0}")]
    Protocol(#[from] WireError),
    /// This server cannot take the frames of this feed.
    #[error("the frames have up to {body_bytes} bytes, but the server accepts at most {max_message_bytes}")]
    FrameTooLarge { body_bytes: usize, max_message_bytes: u32 },
    /// The feed ended, and the linger time passed.
    #[error("{missing} frames not acknowledged at the end ({trouble})")]
    Missing { missing: u64, trouble: String },
    /// The feed ended without a connection, and due frames were never sent.
    #[error("shut out: {sent} of {due} frames sent when the feed ended ({trouble})")]
    ShutOut { sent: u64, due: u64, trouble: String },
    /// The feed ended before the first WELCOME.
    #[error("never connected ({trouble})")]
    NeverConnected { trouble: String },
}

/// The name of a code, or its number if a later version added it.
pub fn code_name(code: u16) -> String {
    ErrorCode::from_wire(code).map_or_else(|| format!("code {code}"), |code| code.to_string())
}
