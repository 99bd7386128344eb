//! One TCP connection of an output.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::SockRef;
use tls::Socket;
use tokio::io::Interest;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Leave;
use super::acknowledged::Acknowledged;
use super::cursor::Keeper;
use super::marks::Marks;
use super::patience;
use super::reader::{Ended, Reader, cursor_saved};
use actor::{Mailbox, Received};
use config::OutputTransport;
use connection::tcp;
use feed::Ending;
use feed::outbox::Outbox;

/// The send buffer with a cursor, in bytes. What lies in it when the reader dies is repeated.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// With so many marks, the session asks the kernel how many of them the reader has reached.
const MARKS_MAX: usize = 1_024;
/// Longest time that a reader may hold its turn at the log while it takes nothing.
const IDLE_TURN_MAX: Duration = Duration::from_millis(100);
/// In a drain, a reader that takes nothing for this long is given up.
const DRAIN_STALL_MAX: Duration = Duration::from_millis(500);
/// How often to ask whether the kernel of the reader has acknowledged the last bytes.
const LINGER_EVERY: Duration = Duration::from_millis(10);
/// Bytes per read. What a reader sends is discarded.
const READ_BYTES: usize = 4 << 10;

/// A connection that is served.
pub(super) struct Session {
    /// The connection.
    socket: Socket,
    /// The position, the conversion and the cursor.
    reader: Reader,
    /// Bytes that are converted and not yet taken by the socket.
    outbox: Outbox,
    /// Bytes that were ever put into the outbox.
    put_bytes: u64,
    /// The positions of bytes that the reader's kernel has not acknowledged.
    marks: Marks,
    /// How many bytes the reader's kernel has acknowledged.
    acknowledged: Acknowledged,
    /// How far the shutdown of the daemon has come.
    ending: watch::Receiver<Ending>,
    /// When the reader last took something, or had nothing to take.
    taken_at: Instant,
    /// When to look again whether the reader is there.
    look_at: Instant,
    /// The reader has closed its writing side. It may go on reading.
    is_half_closed: bool,
}

/// Serves `reader` at the other end of `socket` until one of them ends, and saves the cursor.
///
/// # Errors
/// Why the connection ended: an output has no end of its own.
pub(super) async fn run(
    socket: Socket,
    reader: Reader,
    mut mailbox: Mailbox<Leave>,
    ending: watch::Receiver<Ending>,
) -> Result<(), Ended> {
    tcp::keep_alive(socket.tcp());
    // A socket that refuses an option is dead. The first write reports the error.
    let _ = socket.tcp().set_nodelay(true);
    if reader.keeper.is_some() {
        let _ = SockRef::from(socket.tcp()).set_send_buffer_size(SEND_BUFFER_BYTES);
    }
    let acknowledged = Acknowledged::new(socket.tcp());
    let mut session = Session {
        socket,
        reader,
        outbox: Outbox::default(),
        put_bytes: 0,
        marks: Marks::default(),
        acknowledged,
        ending,
        taken_at: Instant::now(),
        look_at: Instant::now() + patience::LOOK_EVERY,
        is_half_closed: false,
    };
    let ended = session.serve(&mut mailbox).await;
    if matches!(ended, Ended::Drained) {
        session.linger().await;
    }
    session.note_acknowledged();
    session.reader.finish().await;
    Err(ended)
}

impl Session {
    async fn serve(&mut self, mailbox: &mut Mailbox<Leave>) -> Ended {
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        loop {
            self.fill();
            let was_full = self.outbox.is_full();
            if let Err(error) = self.write() {
                return error.into();
            }
            // A socket that took everything at once does not signal again, and there may be more to add.
            let has_more = (was_full && !self.outbox.is_full())
                || (self.reader.following.has_chunk() && self.outbox.is_empty());
            if let Err(error) = self.act_on_time() {
                return error.into();
            }
            if let Some(ended) = self.judge_end() {
                return ended;
            }
            let due = self.next_due();
            if timer.is_elapsed() || due != timer.deadline() {
                timer.as_mut().reset(due);
            }
            let interest = self.interest();
            let outcome = tokio::select! {
                ready = self.socket.tcp().ready(interest) => match ready {
                    Ok(ready) if ready.is_error() => Err(self.socket_error().into()),
                    Ok(ready) if ready.is_readable() && !self.is_half_closed => {
                        let read = self.discard();
                        // A socket that stays ready never suspends its task. Other tasks of this thread would wait.
                        yield_now().await;
                        read
                    }
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.into()),
                },
                progress = self.reader.following.progress(!self.outbox.is_full()) => progress.map_err(Ended::from),
                () = cursor_saved(&mut self.reader.keeper, &self.reader.config, &self.reader.status) => Ok(()),
                order = mailbox.recv() => match order {
                    Some(Received::Message(leave)) => Err(Ended::Stopped(leave)),
                    _ => Ok(()),
                },
                _ = self.ending.changed() => Ok(()),
                () = &mut timer => Ok(()),
                () = yield_now(), if has_more => Ok(()),
            };
            if let Err(ended) = outcome {
                return ended;
            }
        }
    }

    /// Adds what is due to the outbox, up to its limit.
    fn fill(&mut self) {
        while !self.outbox.is_full() {
            let Some(converted) = self.reader.next(self.outbox.is_empty()) else { break };
            for (bytes, position) in converted.marks {
                self.marks.push(self.put_bytes + bytes as u64, position);
            }
            self.put_bytes += converted.bytes.len() as u64;
            self.outbox.push(converted.bytes.into());
        }
        self.reader.following.read_ahead();
        if self.marks.len() >= MARKS_MAX {
            self.note_acknowledged();
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let written = self.outbox.write_to(&mut self.socket)?;
        self.reader.status.count(|counts| counts.bytes += written as u64);
        if written > 0 || self.outbox.is_empty() {
            self.taken_at = Instant::now();
        }
        Ok(())
    }

    fn interest(&self) -> Interest {
        // Once the reader has closed its writing side, the socket is always readable.
        let base = if self.is_half_closed { Interest::ERROR } else { Interest::READABLE | Interest::ERROR };
        if self.outbox.is_empty() { base } else { base | Interest::WRITABLE }
    }

    /// Reads once and forgets what was read: readers have no way to give orders.
    ///
    /// A reader that has connected may close its writing side and go on reading. One that the output has connected to
    /// has gone when it closes: the output connects again.
    fn discard(&mut self) -> Result<(), Ended> {
        match self.socket.tcp().try_read(&mut [0; READ_BYTES]) {
            Ok(0) if matches!(self.reader.config.transport, OutputTransport::Connect { .. }) => {
                Err(Ended::Eof)
            }
            Ok(0) => {
                self.is_half_closed = true;
                self.reader.client.status.is_half_closed.store(true, Relaxed);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn socket_error(&self) -> io::Error {
        self.socket.tcp().take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    /// Moves the cursor to what the reader's kernel has acknowledged.
    fn note_acknowledged(&mut self) {
        if self.reader.keeper.is_none() {
            return;
        }
        let Some(bytes) =
            self.acknowledged.bytes(self.socket.tcp(), self.put_bytes - self.outbox.len() as u64)
        else {
            return;
        };
        if let Some(position) = self.marks.reach(bytes) {
            self.reader.moved_to(position);
        }
    }

    /// Gives up a turn at the log that is not used, saves the cursor and looks whether the reader is there, as each is
    /// due.
    ///
    /// # Errors
    /// The reader is gone.
    fn act_on_time(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.idle_turn_ends_at().is_some_and(|at| now >= at) {
            self.reader.following.give_up_turn();
        }
        if self.reader.keeper.as_ref().is_some_and(|keeper| now >= keeper.next_at()) {
            self.note_acknowledged();
        }
        if let Some(keeper) = &mut self.reader.keeper {
            keeper.act(now);
        }
        if now >= self.look_at {
            self.look_at = now + patience::LOOK_EVERY;
            patience::look(self.socket.tcp())?;
        }
        Ok(())
    }

    /// When the loop must run even if nothing happens.
    fn next_due(&self) -> Instant {
        let stalled_at =
            matches!(*self.ending.borrow(), Ending::Final(_)).then(|| self.taken_at + DRAIN_STALL_MAX);
        let save_at = self.reader.keeper.as_ref().map(Keeper::next_at);
        [stalled_at, save_at, self.idle_turn_ends_at()].into_iter().flatten().fold(self.look_at, Instant::min)
    }

    /// When a turn at the log that waits for the reader is given up.
    fn idle_turn_ends_at(&self) -> Option<Instant> {
        self.reader.following.turn_ends_at().map(|ends_at| ends_at.min(self.taken_at + IDLE_TURN_MAX))
    }

    /// In a drain, ends the session when the reader has everything, or has stopped taking.
    fn judge_end(&self) -> Option<Ended> {
        let ending = self.ending.borrow();
        if !matches!(*ending, Ending::Final(_)) {
            return None;
        }
        if self.reader.is_served(&ending) && self.outbox.is_empty() {
            return Some(Ended::Drained);
        }
        (self.taken_at.elapsed() >= DRAIN_STALL_MAX).then_some(Ended::Stalled)
    }

    /// Closes the writing side and waits until the reader's kernel has everything, or stops taking. A socket that is
    /// closed with unread bytes would be reset, and the reader could lose the last bytes.
    async fn linger(&mut self) {
        let _ = SockRef::from(self.socket.tcp()).shutdown(Shutdown::Write);
        let is_taken = async {
            while self
                .acknowledged
                .bytes(self.socket.tcp(), self.put_bytes)
                .is_some_and(|bytes| bytes < self.put_bytes)
            {
                if self.discard().is_err() {
                    return;
                }
                sleep(LINGER_EVERY).await;
            }
        };
        let _ = timeout(DRAIN_STALL_MAX, is_taken).await;
        while !self.is_half_closed && matches!(self.socket.tcp().try_read(&mut [0; READ_BYTES]), Ok(1..)) {}
    }
}
