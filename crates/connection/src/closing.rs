//! The last message on a connection, and an orderly close that does not destroy this message.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::{RecvFlags, recv};
use tls::Socket;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use wire::{ErrorMessage, WireError};

/// Longest time for the peer to receive the last message.
const WRITE_TIME_MAX: Duration = Duration::from_secs(1);
/// Longest time to discard input afterwards. Closing with unread input sends a reset, which destroys the
/// message.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);
/// Most bytes of input to discard.
const DISCARD_BYTES_MAX: usize = 1 << 20;
/// Size in bytes, and greatest number, of the reads that discard input without waiting.
const AT_ONCE_READ_BYTES: usize = 512;
const AT_ONCE_READS_MAX: usize = 64;
/// When a client may come back. Retryable errors carry this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Writes `known`, then ERROR, and closes.
pub async fn say_error(socket: &mut Socket, mut known: BytesMut, error: &WireError) {
    ErrorMessage::new(error, RETRY_AFTER).encode(&mut known);
    say(socket, known).await;
}

/// [`write_at_once`] with `known`, then ERROR.
pub fn say_at_once(socket: &mut Socket, mut known: BytesMut, error: &WireError) {
    ErrorMessage::new(error, RETRY_AFTER).encode(&mut known);
    write_at_once(socket, &known);
}

/// Writes as much of `last` as the socket takes, and does not wait. The caller must close the socket.
pub fn write_at_once(socket: &mut Socket, last: &[u8]) {
    // Input is discarded first: closing with unread input sends a reset, which destroys the message.
    let mut sink = [0; AT_ONCE_READ_BYTES];
    for _ in 0..AT_ONCE_READS_MAX {
        match recv(socket.tcp(), &mut sink, RecvFlags::DONTWAIT) {
            Ok((AT_ONCE_READ_BYTES, _)) => {}
            _ => break,
        }
    }
    // A peer whose socket takes nothing gets no message.
    let _ = socket.write_now(last);
}

/// Writes `last`, shuts down the writing side, and discards input until end of file or a limit.
///
/// A peer that does not take the message in time does not get it: such a peer has stopped reading. A peer whose TLS
/// handshake has failed gets the alert instead.
pub async fn say(socket: &mut Socket, last: BytesMut) {
    let written = timeout(WRITE_TIME_MAX, async {
        socket.write_all(&last).await?;
        socket.shutdown().await
    });
    if matches!(written.await, Ok(Ok(()))) {
        // The outcome does not matter: the connection ends either way.
        let _ = timeout(DISCARD_TIME_MAX, discard(socket)).await;
    }
}

async fn discard(socket: &mut Socket) -> io::Result<()> {
    // On the heap: an array would enlarge the task of every connection for its whole life.
    let mut sink = vec![0; 4096];
    let mut left = DISCARD_BYTES_MAX;
    while left > 0 {
        match socket.read_raw(&mut sink).await? {
            0 => return Ok(()),
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}
