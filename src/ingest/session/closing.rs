//! The last words on a connection, and an end that does not destroy them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Ended, Session, Settling};
use crate::frame::Origin;
use crate::pipeline::SessionId;
use crate::wire::{Bye, ErrorCode, ErrorMessage, WireError};

/// How long a peer may take to receive the last words.
const WRITE_TIME_MAX: Duration = Duration::from_secs(1);
/// How long input is discarded afterwards: closing with unread input sends a reset that destroys them.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);
/// How much input is discarded.
const DISCARD_BYTES_MAX: usize = 1 << 20;
/// When a client may come back, told with retryable errors.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Session {
    /// Lets a successor speak for the stream, then says the last words, which may take a while.
    pub(super) async fn close(mut self, served: Result<Settling, Ended>) -> Result<(), Ended> {
        self.note_durable();
        let Self { mut socket, opened, outbox, mut intake, session_id, durable_next, .. } = self;
        let known =
            outbox.finish(durable_next, opened.stream.queue.queued_cost(), &mut intake, Instant::now());
        let origin = Arc::clone(&opened.origin);
        drop(opened);
        let ended = match served {
            Ok(Settling::Bye) => {
                note_bye(session_id, &origin, intake.said_bye().unwrap_or_default(), intake.accepted_next());
                say_bye(&mut socket, known, durable_next).await;
                return Ok(());
            }
            Ok(Settling::Eof) => {
                say(&mut socket, known).await;
                return Err(Ended::Eof);
            }
            Ok(Settling::Drained) => {
                WireError::new(ErrorCode::Draining, "the daemon has drained, what it acknowledged is kept")
            }
            Err(Ended::Error(error)) => error,
            Err(lost) => return Err(lost),
        };
        say_error(&mut socket, known, &ended).await;
        Err(ended.into())
    }
}

fn note_bye(session: SessionId, origin: &Origin, said: Bye, accepted_next: [u64; 2]) {
    let stream = &origin.stream;
    if said.next == accepted_next {
        tracing::info!(session, %stream, next = ?said.next, "feed complete");
    } else {
        tracing::warn!(
            session, %stream, said = ?said.next, accepted = ?accepted_next,
            "feed complete, but its BYE names other positions"
        );
    }
}

/// Writes `known`, then ERROR, and closes.
pub(super) async fn say_error(socket: &mut TcpStream, mut known: BytesMut, error: &WireError) {
    ErrorMessage::new(error, RETRY_AFTER).encode(&mut known);
    say(socket, known).await;
}

/// Writes `known`, then BYE with the durable positions, and closes.
async fn say_bye(socket: &mut TcpStream, mut known: BytesMut, durable_next: [u64; 2]) {
    Bye { next: durable_next }.encode(&mut known);
    say(socket, known).await;
}

/// Writes `last`, shuts down the writing side, and discards input until end of file or a limit.
///
/// A peer that does not take the words in time goes without: it has stopped reading.
async fn say(socket: &mut TcpStream, last: BytesMut) {
    let written = timeout(WRITE_TIME_MAX, async {
        socket.write_all(&last).await?;
        socket.shutdown().await
    });
    if matches!(written.await, Ok(Ok(()))) {
        // The outcome does not matter: the connection ends either way.
        let _ = timeout(DISCARD_TIME_MAX, discard(socket)).await;
    }
}

async fn discard(socket: &mut TcpStream) -> io::Result<()> {
    let mut sink = [0; 4096];
    let mut left = DISCARD_BYTES_MAX;
    while left > 0 {
        match socket.read(&mut sink).await? {
            0 => return Ok(()),
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}
