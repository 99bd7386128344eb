//! One connection, from HELLO to its last byte.
//!
//! The decisions are in code without I/O: `handshake` (the answer to HELLO), `intake` (the effect of a
//! message), `credit`, `outbox` (what is written next). This file, `input` and `closing` carry the decisions
//! out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tls::Socket;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::acks::AckSignal;
use super::opened::Opened;
use super::router::Router;
use super::{Context, IngestConfig, StreamState};
use actor::{Mailbox, Received};
use connection::entrance::{FirstMessageError, Permit};
use connection::{SessionId, Stop};
use frame::{FrameRun, Lanes, ReadBuffer, unix_now_ns};
use support::logging::{Kind, by_peer};
use wire::clock::{Clock, Due};
use wire::{ClientMessage, ErrorCode, WireError, cut};

mod catalog;
mod closing;
mod credit;
mod earlier;
mod handshake;
pub(super) mod input;
mod intake;
mod outbox;

use catalog::CatalogCursor;
use input::{Input, READ_BYTES_MIN};
use intake::{Intake, Taken};
use outbox::Outbox;

/// In a drain, a socket that stays empty for this long has no more data.
const DRAIN_QUIET: Duration = Duration::from_millis(100);

/// After a read of this many bytes, other sessions get a turn.
const TURN_BYTES: usize = 16 << 10;

/// A new connection from the listener.
pub(super) struct Arrival {
    /// The id that the router gave.
    pub(super) session_id: SessionId,
    /// The instant from which the heartbeats of all sessions are counted.
    pub(super) clock_origin: Instant,
    /// The connection.
    pub(super) socket: TcpStream,
    /// Its address.
    pub(super) peer: SocketAddr,
    /// The limits that were in force when the connection came. The connection keeps them to the end.
    pub(super) config: Arc<IngestConfig>,
    /// The permit that the connection holds until it is let in.
    pub(super) permit: Permit,
}

/// Runs a session to its end.
///
/// # Errors
/// Why the peer was not served to a BYE. The log and the monitors of the session use it.
pub(super) async fn run(
    arrival: Arrival,
    mut mailbox: Mailbox<Stop>,
    context: Arc<Context>,
    router: Router,
) -> Result<(), Ended> {
    let Arrival { session_id, clock_origin, socket, peer, config, permit } = arrival;
    // A socket that refuses this option is dead. The first read reports the error.
    let _ = socket.set_nodelay(true);
    let tls = context.policy().tls.clone();
    let mut socket = Socket::accepted(socket, tls.as_ref())?;
    let signal = AckSignal::new(Arc::default(), Instant::now());
    let greeting = handshake::Greeting {
        session_id,
        config: &config,
        signal: &signal,
        context: &context,
        router: &router,
        permit: &permit,
        tls,
    };
    let handshake::Greeted { mut opened, outbox, intake, catalog, rest } =
        match greeting.greet(&mut socket, &mut mailbox).await {
            Ok(greeted) => greeted,
            Err(Ended::Error(error)) => {
                log_error(peer, &error);
                drop(permit);
                context.entrance.refuse(&mut socket, peer, &error).await;
                return Err(Ended::Error(error));
            }
            Err(lost) => return Err(lost),
        };
    // From here on, a session that ends without BYE leaves the stream lost.
    opened.ended = Some(StreamState::Lost);
    // The session has a slot from here on.
    drop(permit);
    // The clock begins now; it does not count what came before.
    socket.take_heard();
    let input = Input::new(Arc::clone(&context.buffers), rest, config.message_bytes_max);
    let clock = Clock::grouped(outbox.heartbeat(), clock_origin, Instant::now());
    let durable_next = opened.position.durable_next;
    let mut session = Session {
        session_id,
        socket,
        mailbox,
        shutdown: context.shutdown.clone(),
        context,
        config,
        input,
        signal,
        opened,
        outbox,
        intake,
        catalog,
        clock,
        phase: Phase::Open,
        read_closed: false,
        has_read_much: false,
        durable_next,
    };
    let served = session.serve().await;
    if let Err(Ended::Error(error)) = &served {
        log_error(peer, error);
        // `Fenced` is an order, not a mistake of the peer: a successor has come.
        if error.code != ErrorCode::Fenced {
            session.context.entrance.note(peer, error);
        }
    }
    session.close(served).await
}

/// Logs that `peer` got ERROR. A mistake of a peer is not an error of the daemon.
fn log_error(peer: SocketAddr, error: &WireError) {
    by_peer!(Kind::Refused, INFO, %peer, code = error.code.name(), detail = error.detail, "{}", error.text);
}

/// Why a session ended other than by a BYE from both sides.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer got this ERROR.
    #[error("{0}")]
    Error(#[from] WireError),
    /// The peer closed without BYE; everything that was accepted is settled.
    #[error("the peer closed without BYE")]
    Eof,
    /// The connection broke; everything that was accepted is settled nevertheless.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
}

impl From<FirstMessageError> for Ended {
    fn from(error: FirstMessageError) -> Self {
        match error {
            FirstMessageError::Error(error) => Self::Error(error),
            FirstMessageError::Lost(error) => Self::Lost(error),
        }
    }
}

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Frames come in.
    Open,
    /// The daemon drains: what is in the socket is still read.
    Draining {
        /// When the socket counts as empty. Moves on with everything that comes.
        quiet_at: Instant,
        /// When reading ends even if bytes still come.
        read_until: Instant,
    },
    /// No more frames come; the session waits until accepted frames are durable.
    Settling(Settling),
}

/// Why no more frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    /// The client has said BYE. It is still read, for its PINGs.
    Bye,
    /// The client has closed its writing side without BYE.
    Eof,
    /// The daemon drains, and what was in the socket is read.
    Drained,
}

/// A connection that is served.
struct Session {
    /// The id that the router gave.
    session_id: SessionId,
    /// The connection.
    socket: Socket,
    /// Receives the order to end.
    mailbox: Mailbox<Stop>,
    /// Turns true when the daemon drains.
    shutdown: watch::Receiver<bool>,
    /// What all sessions share.
    context: Arc<Context>,
    /// The limits that were in force when the connection came.
    config: Arc<IngestConfig>,
    /// Bytes that are read and not yet decoded.
    input: Input,
    /// Signals that the stream's durable position or its queue has moved.
    signal: Arc<AckSignal>,
    /// The right to speak for the stream.
    opened: Opened,
    /// What is written next.
    outbox: Outbox,
    /// Judges messages, and counts credit.
    intake: Intake,
    /// `None` for a client that does not want the catalog, and once the connection ends.
    catalog: Option<CatalogCursor>,
    /// The heartbeats.
    clock: Clock,
    /// How far the connection has come.
    phase: Phase,
    /// The peer has shut down its writing side.
    read_closed: bool,
    /// The last read was so large that other sessions get a turn.
    has_read_much: bool,
    /// The durable positions of this session's own epoch, as last seen.
    durable_next: Lanes<u64>,
}

impl Session {
    /// Reads, writes and waits until everything that was accepted is settled.
    async fn serve(&mut self) -> Result<Settling, Ended> {
        let mut timer = std::pin::pin!(sleep_until(self.clock.next_due()));
        // Created once: a new future in each turn of the loop would have to register again.
        let changed = Arc::clone(self.signal.changed());
        let mut news = std::pin::pin!(changed.notified());
        let mut shutdown = std::pin::pin!(begins(self.shutdown.clone()));
        let mut is_shut_down = false;
        // More bytes may have come behind HELLO.
        let rest = self.input.buffer();
        self.take_in(rest)?;
        let mut now = Instant::now();
        loop {
            let was_behind = !self.outbox.is_empty();
            self.refresh(now);
            if let Phase::Settling(why) = self.phase
                && self.is_settled()
            {
                return Ok(why);
            }
            self.outbox.write_to(&mut self.socket)?;
            if was_behind && self.outbox.is_empty() {
                // New values had to wait until the older bytes were written.
                continue;
            }
            let willing = self.is_willing_to_read();
            if self.clock.set_reading(willing, now) {
                self.put_off_quiet(now);
            }
            let due = self.next_due(willing);
            if timer.is_elapsed() || due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            let writes = !self.outbox.is_empty() || self.catalog.as_ref().is_some_and(CatalogCursor::is_due);
            // The socket comes last, so that a socket that is always ready does not delay the rare events.
            tokio::select! {
                biased;
                Some(received) = self.mailbox.recv() => {
                    if let Received::Message(Stop(error)) = received {
                        return Err(Ended::Error(error));
                    }
                }
                () = &mut shutdown, if !is_shut_down => {
                    is_shut_down = true;
                    self.begin_drain();
                }
                () = catalog_changed(&mut self.catalog), if self.catalog.is_some() => {}
                () = &mut news => news.set(changed.notified()),
                () = &mut timer => {}
                is_readable = self.socket.ready(willing, writes) => {
                    if is_readable? {
                        self.read()?;
                        // A socket that stays ready never suspends its task, and messages that need no credit
                        // never stop. One peer would keep the thread, and the runtime would not poll the
                        // other sockets.
                        if self.has_read_much {
                            tokio::task::yield_now().await;
                        }
                    }
                }
            }
            now = Instant::now();
            self.act_on_time(now)?;
        }
    }

    /// Encodes new values into the outbox, once the older bytes are written.
    fn refresh(&mut self, now: Instant) {
        if self.signal.take_due() {
            self.outbox.set_routine_due();
        }
        self.note_durable();
        let queued = self.opened.stream.queue.look(self.intake.awaits_empty());
        if self.outbox.refresh(self.durable_next, queued, &mut self.intake, now) {
            self.signal.sent(now);
        }
        if let Some(catalog) = &mut self.catalog {
            self.outbox.append_catalog(catalog);
        }
    }

    /// Notes the durable positions. Positions of a newer epoch do not belong to this session.
    fn note_durable(&mut self) {
        let position = self.opened.stream.position();
        if position.epoch == self.opened.origin.epoch {
            self.durable_next = position.durable_next;
        }
    }

    /// Whether the client has everything that it waits for. A client that says BYE still gets the whole
    /// catalog.
    fn is_settled(&self) -> bool {
        let is_catalog_owed = self.catalog.as_ref().is_some_and(CatalogCursor::is_due);
        !is_catalog_owed && self.is_durable()
    }

    /// Whether every accepted frame of this session's epoch is on stable storage.
    fn is_durable(&self) -> bool {
        self.intake.accepted_next().into_iter().all(|(priority, next)| self.durable_next[priority] >= next)
    }

    /// Whether the session reads when the socket has something. After BYE it reads what a client may still ask (PING).
    /// Otherwise it reads while there is room.
    fn is_willing_to_read(&self) -> bool {
        match self.phase {
            _ if self.read_closed => false,
            Phase::Settling(why) => why == Settling::Bye,
            Phase::Open | Phase::Draining { .. } => self.read_bytes_max() > 0,
        }
    }

    fn read_bytes_max(&self) -> usize {
        self.intake.read_bytes_max(self.opened.stream.queue.queued_cost())
    }

    /// Reads what the socket has, then hands over all of it at once. Returns true if there was anything, also a part of
    /// a TLS record.
    fn read(&mut self) -> Result<bool, Ended> {
        // Reads a minimum even without room: after BYE, or when the clock asks for a last read.
        let bytes_max = self.read_bytes_max().max(READ_BYTES_MIN);
        let read = self.input.read_from(&mut self.socket, bytes_max);
        self.has_read_much = read.bytes >= TURN_BYTES;
        let is_heard = self.socket.take_heard();
        if is_heard {
            self.heard(Instant::now());
        }
        self.take_in(read.buffer)?;
        match read.end {
            None => Ok(is_heard),
            Some(Err(error)) => Err(Ended::Lost(error)),
            Some(Ok(())) => {
                self.read_closed = true;
                self.clock.stop(Instant::now());
                // The peer may be gone and may never take the catalog.
                self.catalog = None;
                if !matches!(self.phase, Phase::Settling(_)) {
                    self.settle(Settling::Eof);
                }
                Ok(true)
            }
        }
    }

    fn heard(&mut self, now: Instant) {
        self.clock.heard(now);
        self.put_off_quiet(now);
    }

    /// In a drain, restarts the wait for an empty socket.
    fn put_off_quiet(&mut self, now: Instant) {
        if let Phase::Draining { quiet_at, .. } = &mut self.phase {
            *quiet_at = now + DRAIN_QUIET;
        }
    }

    /// Decodes every complete message in `buffer` and hands the frames over. Emergencies have a lane of their
    /// own.
    ///
    /// Messages before an offending message are accepted.
    fn take_in(&mut self, mut buffer: ReadBuffer) -> Result<(), Ended> {
        while let Some(unpacked) = self.take_plain(buffer)? {
            self.take_unpacked(unpacked)?;
            buffer = self.input.buffer();
        }
        Ok(())
    }

    /// Takes the messages in `buffer` as far as the first ZSTD, and returns what that had. The bytes behind it are kept.
    fn take_plain(&mut self, mut buffer: ReadBuffer) -> Result<Option<ReadBuffer>, Ended> {
        let ReadBuffer { bytes, metas } = &mut buffer;
        let mut bodies = cut(bytes, self.config.message_bytes_max);
        let mut refused = Ok(());
        let mut unpacked = None;
        for (at, body) in &mut bodies {
            match self.intake.take(at, body, metas) {
                Ok(Taken::Frame) => {}
                Ok(Taken::Other(message)) => self.answer(&message),
                Ok(Taken::Packed) => {
                    let mut into = self.input.pool().take();
                    refused = wire::packed::unpack(body, self.config.message_bytes_max, &mut into.bytes);
                    unpacked = Some(into);
                    break;
                }
                Err(error) => {
                    refused = Err(error);
                    break;
                }
            }
        }
        let (end, judged) = bodies.end();
        self.input.keep(&mut buffer, end);
        self.hand_over(buffer)?;
        refused.and(judged)?;
        Ok(unpacked)
    }

    /// Takes the messages that a ZSTD had.
    fn take_unpacked(&mut self, mut unpacked: ReadBuffer) -> Result<(), Ended> {
        let (ping, judged) = self.intake.take_packed(&unpacked.bytes, &mut unpacked.metas);
        if let Some(nonce) = ping {
            self.outbox.pong(nonce);
        }
        self.hand_over(unpacked)?;
        judged.map_err(Ended::Error)
    }

    fn answer(&mut self, message: &ClientMessage) {
        match message {
            ClientMessage::Ping(nonce) => self.outbox.pong(*nonce),
            ClientMessage::Bye(_) => self.settle(Settling::Bye),
            ClientMessage::Pong(_) | ClientMessage::Ignored(_) | ClientMessage::Frame(_) => {}
        }
    }

    /// Hands over the frames of `buffer`.
    fn hand_over(&mut self, buffer: ReadBuffer) -> Result<(), Ended> {
        let batch = self.intake.take_batch(buffer, self.input.pool(), &self.opened.origin, unix_now_ns());
        let Some(batch) = batch else {
            return Ok(());
        };
        let stream = &self.opened.stream;
        stream.books.add_received(batch.received, batch.duplicates, batch.rejected);
        let frames = batch.lanes.values().flatten().map(FrameRun::len).sum::<usize>() as u64;
        let accepted = stream.accept(self.session_id, self.intake.accepted_next(), batch.lanes);
        let accepted = accepted.map_err(|_| self.displaced());
        let books = &self.opened.stream.books;
        match &accepted {
            Ok(counts) => books.add_accepted(counts),
            Err(error) => books.add_rejected(error.code, frames),
        }
        accepted.map(|_| ()).map_err(Ended::Error)
    }

    /// Returns why this session does not speak for the stream. The order to end came with the change and
    /// gives the reason.
    fn displaced(&mut self) -> WireError {
        match self.mailbox.try_recv() {
            Some(Received::Message(Stop(error))) => error,
            _ => WireError::new(ErrorCode::TakenOver, "another connection has taken over this stream"),
        }
    }

    /// Takes no more frames. From here on, any commit may be the last one that the session waits for.
    fn settle(&mut self, why: Settling) {
        self.signal.end();
        self.phase = Phase::Settling(why);
    }

    /// Tells the client that the daemon drains, and limits how long its frames are still read.
    fn begin_drain(&mut self) {
        self.catalog = None;
        if self.phase != Phase::Open {
            return;
        }
        let now = Instant::now();
        // This limit follows from the deadline of the drain itself.
        let read_max = self.context.policy.borrow().config.drain_read_max;
        self.outbox.goaway(read_max);
        self.signal.end();
        self.phase = Phase::Draining { quiet_at: now + DRAIN_QUIET, read_until: now + read_max };
    }

    /// When [`Self::act_on_time`] has to be called. While the session does not read, an empty socket ends no drain.
    fn next_due(&self, willing: bool) -> Instant {
        let mut due = self.clock.next_due();
        if let Phase::Draining { quiet_at, read_until } = self.phase {
            due = due.min(if willing { quiet_at.min(read_until) } else { read_until });
        }
        self.outbox.credit_due().map_or(due, |at| due.min(at))
    }

    /// Sends a PING, ends the connection of a silent peer, and ends the reading of a drain, as each is due.
    fn act_on_time(&mut self, now: Instant) -> Result<(), Ended> {
        match self.clock.act(now) {
            Some(Due::Ping(nonce)) => {
                self.outbox.ping(nonce);
                self.input.shrink();
            }
            // After a pause of the whole process, the socket may hold unread bytes.
            Some(Due::Idle(_)) if self.read()? => {}
            Some(Due::Idle(silence)) => {
                let text = format!("nothing received for {silence:?}");
                return Err(Ended::Error(WireError::new(ErrorCode::Idle, text)));
            }
            None => {}
        }
        if let Phase::Draining { quiet_at, read_until } = self.phase {
            let is_quiet = now >= quiet_at && self.clock.is_reading();
            if now >= read_until || (is_quiet && !self.read()?) {
                self.settle(Settling::Drained);
            }
        }
        Ok(())
    }
}

/// Completes when the drain begins.
async fn begins(mut shutdown: watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn catalog_changed(catalog: &mut Option<CatalogCursor>) {
    match catalog {
        Some(catalog) => catalog.changed().await,
        None => std::future::pending().await,
    }
}
