//! One subscriber, from SUBSCRIBE to its last byte.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tls::Socket;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::follow::Following;
use super::outbox::Outbox;
use super::subscribers::Entered;
use super::{Context, Ending, Permit};
use actor::{Mailbox, Received};
use archive::ReadError;
use connection::Stop;
use connection::closing;
use connection::entrance::{self, FirstMessageError};
use support::logging::{Kind, by_peer};
use wire::clock::{Clock, Due};
use wire::{ErrorCode, FeedMessage, Policy, SubscriberMessage, WireError, next_body};

mod handshake;

/// Longest time that a subscriber may hold its turn at the log while it takes nothing.
const IDLE_TURN_MAX: Duration = Duration::from_millis(100);
/// In a drain, a subscriber that takes nothing for this long is given up.
const DRAIN_STALL_MAX: Duration = Duration::from_millis(500);
/// Bytes per read; subscribers send little.
const READ_BYTES: usize = 4 << 10;

/// A new connection from the listener.
pub(super) struct Arrival {
    /// The id that the registry gave.
    pub(super) session_id: u64,
    /// The connection.
    pub(super) socket: TcpStream,
    /// Its address.
    pub(super) peer: SocketAddr,
    /// The permit that the connection holds until it is let in.
    pub(super) permit: entrance::Permit,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The subscriber got this ERROR.
    #[error("{0}")]
    Error(#[from] WireError),
    /// The subscriber closed.
    #[error("the subscriber closed the connection")]
    Eof,
    /// The connection broke.
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

/// Runs a session to its end.
///
/// # Errors
/// Why the session ended: a subscription has no end of its own.
pub(super) async fn run(
    arrival: Arrival,
    mut mailbox: Mailbox<Stop>,
    context: Arc<Context>,
) -> Result<(), Ended> {
    let Arrival { session_id, socket, peer, permit } = arrival;
    // A socket that refuses this option is dead. The first read reports the error.
    let _ = socket.set_nodelay(true);
    let tls = context.policy().tls.clone();
    let mut socket = Socket::accepted(socket, tls.as_ref())?;
    let (ended, rest, subscribed) =
        match handshake::greet(&mut socket, tls, permit, &mut mailbox, &context).await {
            Ok((mut subscription, input)) => {
                // The session keeps its place among the subscribers until its last byte is written.
                let subscribed = subscription.permit.take();
                by_peer!(
                    Kind::Subscribed, INFO,
                    session = session_id, %peer, from_offset = subscription.following.next_offset(),
                    policy = ?subscription.policy, "subscribed"
                );
                let (policy, next_offset) = (subscription.policy, subscription.following.next_offset());
                let entered = context.subscribers.enter(session_id, peer, policy, next_offset);
                let ending = context.ending.clone();
                let mut session = Session::new(&mut socket, mailbox, ending, input, subscription, entered);
                let Err(ended) = session.serve().await;
                // The ERROR must not come within a message.
                (ended, session.outbox.into_rest(), subscribed)
            }
            Err(ended) => {
                if let Ended::Error(error) = &ended {
                    log_error(session_id, peer, error);
                    context.entrance.refuse(&mut socket, peer, error).await;
                }
                return Err(ended);
            }
        };
    if let Ended::Error(error) = &ended {
        log_error(session_id, peer, error);
        context.entrance.note(peer, error);
        closing::say_error(&mut socket, rest, error).await;
    }
    drop(subscribed);
    Err(ended)
}

fn log_error(session_id: u64, peer: SocketAddr, error: &WireError) {
    by_peer!(
        Kind::Refused, INFO,
        session = session_id, %peer, code = error.code.name(), detail = error.detail, "{}", error.text
    );
}

/// What a subscriber gets, and its position.
pub(super) struct Subscription {
    /// What happens to frames for which the subscriber is too slow.
    policy: Policy,
    /// Its position. The frames below it are in the outbox, were sent or filtered out, or are named in a GAP.
    following: Following,
    /// The heartbeat of both sides.
    heartbeat: Duration,
    /// Longest body that SUBSCRIBED announces.
    message_bytes_max: usize,
    /// SUBSCRIBED, and a GAP if the subscription begins with one.
    greeting: BytesMut,
    /// Taken at the end of the session, which outlives the subscription.
    permit: Option<Permit>,
}

/// A subscriber that is served.
struct Session<'a> {
    /// The connection.
    socket: &'a mut Socket,
    /// Receives the order to end.
    mailbox: Mailbox<Stop>,
    /// How far the shutdown of the daemon has come.
    ending: watch::Receiver<Ending>,
    /// Bytes that were read and are no whole message yet.
    input: BytesMut,
    /// What the subscriber gets, and its position.
    subscription: Subscription,
    /// Its place among the current subscribers.
    entered: Entered,
    /// Messages that the socket has not taken.
    outbox: Outbox,
    /// The heartbeats.
    clock: Clock,
    /// When PROGRESS is due next.
    progress_at: Instant,
    /// When the subscriber last took something, or had nothing to take.
    taken_at: Instant,
    /// The newest nonce to answer.
    pong: Option<u64>,
    /// The nonce of a PING to send.
    ping: Option<u64>,
}

/// A subscription has no regular end: it ends by an error or when the subscriber leaves.
type Endless = std::convert::Infallible;

impl<'a> Session<'a> {
    fn new(
        socket: &'a mut Socket,
        mailbox: Mailbox<Stop>,
        ending: watch::Receiver<Ending>,
        input: BytesMut,
        mut subscription: Subscription,
        entered: Entered,
    ) -> Self {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.push(subscription.greeting.split().freeze());
        Self {
            socket,
            mailbox,
            ending,
            input,
            outbox,
            clock: Clock::new(subscription.heartbeat, now),
            progress_at: now + subscription.heartbeat,
            taken_at: now,
            pong: None,
            ping: None,
            subscription,
            entered,
        }
    }

    async fn serve(&mut self) -> Result<Endless, Ended> {
        let mut timer = std::pin::pin!(sleep_until(self.next_due()));
        // More bytes may have come behind SUBSCRIBE.
        self.take_in()?;
        loop {
            self.fill();
            self.entered.has_come_to(self.subscription.following.next_offset());
            let was_full = self.outbox.is_full();
            self.write()?;
            // A socket that took everything at once does not signal again, and there may be more to add.
            let has_more = (was_full && !self.outbox.is_full())
                || (self.subscription.following.has_chunk() && self.outbox.is_empty());
            self.judge_end()?;
            let due = self.next_due();
            if timer.is_elapsed() || due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            let writes = !self.outbox.is_empty();
            tokio::select! {
                is_readable = self.socket.ready(true, writes) => {
                    if is_readable? {
                        self.read()?;
                        // A socket that stays ready never suspends its task. One subscriber that keeps
                        // sending would keep the thread, and the runtime would not poll the other sockets.
                        yield_now().await;
                    }
                }
                read = self.subscription.following.progress(!self.outbox.is_full()) => {
                    read.map_err(|error| self.unreadable(&error))?;
                }
                order = self.mailbox.recv() => {
                    if let Some(Received::Message(Stop(error))) = order {
                        return Err(self.with_position(error));
                    }
                }
                _ = self.ending.changed() => {}
                () = &mut timer => {}
                () = yield_now(), if has_more => {}
            }
            self.act_on_time()?;
        }
    }

    /// Adds the messages that are due to the outbox, up to its limit.
    fn fill(&mut self) {
        while !self.outbox.is_full() {
            self.fill_answers();
            let Some(messages) = self.subscription.following.next(self.outbox.is_empty()) else { break };
            self.outbox.push(messages);
        }
        self.subscription.following.read_ahead();
    }

    /// Adds the answers to the subscriber, PING and PROGRESS, as they are due.
    fn fill_answers(&mut self) {
        if let Some(nonce) = self.pong.take() {
            self.push(|out| FeedMessage::Pong(nonce).encode(out));
        }
        if let Some(nonce) = self.ping.take() {
            self.push(|out| FeedMessage::Ping(nonce).encode(out));
        }
        let now = Instant::now();
        if now >= self.progress_at {
            self.progress_at = now + self.subscription.heartbeat;
            let next_offset = self.subscription.following.next_offset();
            self.push(|out| FeedMessage::Progress(next_offset).encode(out));
        }
    }

    fn push(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        encode(&mut out);
        self.outbox.push(out.freeze());
    }

    fn unreadable(&self, error: &ReadError) -> Ended {
        let next_offset = self.subscription.following.next_offset();
        by_peer!(Kind::Unread, ERROR, %error, next_offset, "a subscriber cannot be served");
        self.with_position(WireError::new(ErrorCode::StorageFailed, "the archive cannot be read"))
    }

    fn write(&mut self) -> Result<(), Ended> {
        if self.outbox.is_empty() || self.outbox.write_to(self.socket)? > 0 || self.outbox.is_empty() {
            self.taken_at = Instant::now();
        }
        Ok(())
    }

    /// Reads once. The socket stays ready while there is more.
    fn read(&mut self) -> Result<(), Ended> {
        self.input.reserve(READ_BYTES);
        match self.socket.try_read_buf(&mut self.input) {
            Ok(0) => Err(Ended::Eof),
            Ok(_) => {
                self.clock.heard(Instant::now());
                self.take_in()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Acts on every whole message that was read.
    fn take_in(&mut self) -> Result<(), Ended> {
        while let Some(body) = next_body(&mut self.input, self.subscription.message_bytes_max)? {
            match SubscriberMessage::decode(&body)? {
                SubscriberMessage::Ping(nonce) => self.pong = Some(nonce),
                SubscriberMessage::Pong(_) | SubscriberMessage::Ignored(_) => {}
            }
        }
        Ok(())
    }

    /// In a drain, ends the session when the subscriber has everything, or has stopped taking.
    fn judge_end(&mut self) -> Result<(), Ended> {
        let Ending::Final(head) = *self.ending.borrow() else {
            return Ok(());
        };
        let is_served = self.subscription.following.next_offset() >= head && self.outbox.is_empty();
        if is_served || self.taken_at.elapsed() >= DRAIN_STALL_MAX {
            return Err(self.with_position(WireError::new(
                ErrorCode::Draining,
                "the daemon is shutting down; resume at the offset in detail when it is back",
            )));
        }
        Ok(())
    }

    /// Adds the position to continue from to errors that carry it.
    fn with_position(&self, error: WireError) -> Ended {
        match error.code {
            ErrorCode::Draining => Ended::Error(error.with_detail(self.subscription.following.next_offset())),
            _ => Ended::Error(error),
        }
    }

    /// When the loop must run even if nothing happens.
    fn next_due(&self) -> Instant {
        let mut due = self.clock.next_due();
        if !self.outbox.is_full() {
            due = due.min(self.progress_at);
        }
        due = due.min(self.idle_turn_ends_at().unwrap_or(due));
        if matches!(*self.ending.borrow(), Ending::Final(_)) {
            due = due.min(self.taken_at + DRAIN_STALL_MAX);
        }
        due
    }

    /// When a turn that waits for the subscriber is given up.
    fn idle_turn_ends_at(&self) -> Option<Instant> {
        self.subscription.following.turn_ends_at().map(|ends_at| ends_at.min(self.taken_at + IDLE_TURN_MAX))
    }

    /// Gives up a turn at the log that is not used, sends a PING, and ends the session of a silent subscriber, as each
    /// is due.
    fn act_on_time(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        if self.idle_turn_ends_at().is_some_and(|at| now >= at) {
            self.subscription.following.give_up_turn();
        }
        match self.clock.act(now) {
            Some(Due::Ping(nonce)) => self.ping = Some(nonce),
            Some(Due::Idle(silence)) => {
                let text = format!("nothing received for {silence:?}");
                return Err(Ended::Error(WireError::new(ErrorCode::Idle, text)));
            }
            None => {}
        }
        Ok(())
    }
}
