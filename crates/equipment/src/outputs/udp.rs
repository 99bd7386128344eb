//! The datagrams of an output.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Leave;
use super::convert::Converted;
use super::cursor::Keeper;
use super::marks::Marks;
use super::pacer::Pacer;
use super::reader::{Ended, Reader, cursor_saved};
use actor::{Mailbox, Received};
use feed::Ending;

/// Pause after an error of the network, such as a missing route.
const RETRY: Duration = Duration::from_millis(250);
/// Pause while the socket takes nothing.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// Datagrams that are sent before other tasks get a turn.
const DATAGRAMS_PER_TURN: usize = 64;

/// A reader that gets datagrams.
pub(super) struct Sender {
    /// The socket, connected to the address of the reader.
    socket: UdpSocket,
    /// The position, the conversion and the cursor.
    reader: Reader,
    /// Keeps the rate.
    pacer: Pacer,
    /// What is being sent.
    current: Converted,
    /// How many datagrams of `current` were sent.
    sent: usize,
    /// The positions that bytes of `current` lead to.
    marks: Marks,
    /// When the next datagram may go.
    ready_at: Option<Instant>,
    /// How far the shutdown of the daemon has come.
    ending: watch::Receiver<Ending>,
}

/// A socket that sends to `to`.
pub(super) async fn socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Sends to `reader` until it is ordered to end or the daemon has drained, and saves the cursor.
///
/// # Errors
/// Why the sending ended.
pub(super) async fn run(
    socket: UdpSocket,
    bytes_per_s: u64,
    reader: Reader,
    mut mailbox: Mailbox<Leave>,
    ending: watch::Receiver<Ending>,
) -> Result<(), Ended> {
    let mut sender = Sender {
        socket,
        reader,
        pacer: Pacer::new(bytes_per_s, Instant::now()),
        current: Converted::default(),
        sent: 0,
        marks: Marks::default(),
        ready_at: None,
        ending,
    };
    let ended = sender.serve(&mut mailbox).await;
    sender.reader.finish().await;
    Err(ended)
}

impl Sender {
    async fn serve(&mut self, mailbox: &mut Mailbox<Leave>) -> Ended {
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        loop {
            let is_waiting = self.send_some();
            if let Some(keeper) = &mut self.reader.keeper {
                keeper.act(Instant::now());
            }
            let is_sent = self.sent == self.current.ends.len();
            if is_sent && self.reader.is_served(&self.ending.borrow()) {
                return Ended::Drained;
            }
            let save_at = self.reader.keeper.as_ref().map(Keeper::next_at);
            let due = [self.ready_at, save_at].into_iter().flatten().min();
            if let Some(due) = due {
                timer.as_mut().reset(due);
            }
            let outcome = tokio::select! {
                progress = self.reader.following.progress(is_sent) => progress.map_err(Ended::from),
                () = cursor_saved(&mut self.reader.keeper, &self.reader.config, &self.reader.status) => Ok(()),
                order = mailbox.recv() => match order {
                    Some(Received::Message(leave)) => Err(Ended::Stopped(leave)),
                    _ => Ok(()),
                },
                _ = self.ending.changed() => Ok(()),
                () = &mut timer, if due.is_some() => Ok(()),
                () = tokio::task::yield_now(), if !is_waiting => Ok(()),
            };
            if let Err(ended) = outcome {
                return ended;
            }
        }
    }

    /// Sends what the rate allows, up to [`DATAGRAMS_PER_TURN`]. Returns whether there is something to wait for.
    fn send_some(&mut self) -> bool {
        self.ready_at = None;
        for _ in 0..DATAGRAMS_PER_TURN {
            if self.sent == self.current.ends.len() && !self.refill() {
                self.reader.following.read_ahead();
                return true;
            }
            if self.sent < self.current.ends.len() && !self.send() {
                // Nobody else could read the log while the rate is kept.
                self.reader.following.give_up_turn();
                return true;
            }
        }
        false
    }

    /// Takes the next bytes. Returns false if there are none.
    fn refill(&mut self) -> bool {
        let Some(converted) = self.reader.next(true) else { return false };
        (self.current, self.sent) = (converted, 0);
        for (bytes, position) in self.current.marks.drain(..) {
            self.marks.push(bytes as u64, position);
        }
        self.reach(0);
        true
    }

    /// Sends the next datagram. Returns false if it has to wait.
    fn send(&mut self) -> bool {
        let begin = self.sent.checked_sub(1).map_or(0, |before| self.current.ends[before]);
        let end = self.current.ends[self.sent];
        let now = Instant::now();
        if let Err(ready_at) = self.pacer.take(end - begin, now) {
            self.ready_at = Some(ready_at);
            return false;
        }
        let status = &self.reader.status;
        match self.socket.try_send(&self.current.bytes[begin..end]) {
            Ok(bytes) => status.count(|counts| counts.bytes += bytes as u64),
            // The host of the reader has answered an earlier datagram: nobody receives there. This one is not sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                status.count(|counts| counts.unreachable += 1);
                return true;
            }
            Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => {
                status.count(|counts| counts.too_long += 1);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready_at = Some(now + FULL_PAUSE);
                return false;
            }
            Err(error) => {
                status.note_trouble(format!("cannot send to {}: {error}", self.peer()));
                self.ready_at = Some(now + RETRY);
                return false;
            }
        }
        self.sent += 1;
        self.reach(end as u64);
        true
    }

    /// Every byte of the current ones below `bytes` was sent.
    fn reach(&mut self, bytes: u64) {
        if let Some(position) = self.marks.reach(bytes) {
            self.reader.moved_to(position);
        }
    }

    fn peer(&self) -> &str {
        &self.reader.client.status.peer
    }
}
