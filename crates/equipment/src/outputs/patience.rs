//! Readers that take nothing: a living one may take its time, one that is gone must not keep its place.
//!
//! The kernel ends a connection whose bytes stay unacknowledged. It would also end the connection of a reader whose kernel
//! answers that it has no room, because the process does not read. So the limit is lifted for such readers, and this
//! module looks whether their kernel still answers.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::acknowledged::info;
use connection::tcp;

/// How often to look at a reader. The limit of the kernel is longer.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Longest silence of a kernel without room. The kernel here asks it for room every two minutes, or more often.
const SILENCE_MAX: Duration = Duration::from_secs(240);

/// Lets the reader at the other end of `socket` take its time if it has no room.
///
/// # Errors
/// The kernel of the reader is silent.
pub(super) fn look(socket: &TcpStream) -> io::Result<()> {
    let Some(info) = info(socket) else { return Ok(()) };
    let has_no_room = info.tcpi_snd_wnd == 0 || (info.tcpi_unacked == 0 && info.tcpi_notsent_bytes > 0);
    tcp::limit_unacknowledged(socket, !has_no_room);
    if has_no_room && u128::from(info.tcpi_last_ack_recv) >= SILENCE_MAX.as_millis() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the host of the reader does not answer"));
    }
    Ok(())
}
