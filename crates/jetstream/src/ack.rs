//! The answer of the server to a message.

use std::fmt;
use std::pin::Pin;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;

use super::BusError;

/// Why a message was not stored.
#[derive(Debug)]
pub enum PublishError {
    /// The message is not behind the one that was expected. Where the writer stands has to be read.
    Doubt,
    /// The message was refused, or its fate is not known.
    Refused(BusError),
}

/// A result of the client.
type Answer = Result<PublishAck, async_nats::error::Error<PublishErrorKind>>;

/// An answer that is awaited.
pub struct Ack {
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    stream: String,
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Ack {
    pub(super) fn new(ack: PublishAckFuture, stream: &str) -> Self {
        Self { answer: ack.into_future(), stream: stream.to_owned() }
    }

    /// Waits for the answer, and returns the sequence of the message in the stream. Not to be called again after it has
    /// completed.
    ///
    /// # Errors
    /// Why the message was not stored. The server answers that a message is a duplicate only if the message before is
    /// not the expected one, so a duplicate is an error too.
    ///
    /// # Cancel safety
    /// Cancel safe: the next call goes on.
    pub async fn stored(&mut self) -> Result<u64, PublishError> {
        match (&mut self.answer).await {
            Ok(ack) if ack.duplicate => Err(PublishError::Doubt),
            Ok(ack) => Ok(ack.sequence),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    fn refusal(&self, error: &async_nats::error::Error<PublishErrorKind>) -> PublishError {
        let stream = &self.stream;
        let refused = |what: String| PublishError::Refused(BusError(what));
        match error.kind() {
            PublishErrorKind::WrongLastSequence => PublishError::Doubt,
            PublishErrorKind::StreamNotFound => refused(format!(
                "no stream takes the messages: stream {stream} is gone, or its subjects have changed"
            )),
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
                refused(format!("stream {stream} has not acknowledged a message: {error}"))
            }
            _ => {
                let cause = std::error::Error::source(error);
                let cause = cause.and_then(|cause| cause.downcast_ref::<async_nats::jetstream::Error>());
                match cause {
                    // Another message of these subjects is being stored.
                    Some(cause) if cause.error_code() == ErrorCode(10_164) => PublishError::Doubt,
                    Some(cause) => {
                        refused(format!("stream {stream} refuses a message: {cause}{}", way_out(cause)))
                    }
                    None => refused(format!("stream {stream} refuses a message: {error}")),
                }
            }
        }
    }
}

/// What an operator can do about a refusal of the server.
pub(super) fn way_out(error: &async_nats::jetstream::Error) -> &'static str {
    match error.error_code().0 {
        10_047 | 10_077 | 10_023 => {
            "; the stream or the server is full: raise max_bytes, max_msgs or the storage limit"
        }
        10_054 => "; raise max_msg_size of the stream",
        10_060 => "; another stream has these subjects: change stream or subject",
        10_039 | 10_076 => "; switch JetStream on for this account (nats-server -js)",
        10_109 => "; the stream is sealed: name another one",
        _ => "",
    }
}
