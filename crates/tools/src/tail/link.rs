//! One connection to a feed: handshake, messages, heartbeats.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tls::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::code_name;
use wire::clock::{Clock, Due};
use wire::feed::DELIVER_EXCESS_BYTES;
use wire::framing::Bodies;
use wire::{
    ErrorMessage, FeedMessage, HANDSHAKE_BODY_BYTES_MAX, Subscribe, Subscribed, SubscriberMessage, WireError,
    next_body, take_bodies,
};

/// Time limit for a connection to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for the answer to SUBSCRIBE. The daemon may have to search a large archive for a time.
const SUBSCRIBED_TIMEOUT: Duration = Duration::from_secs(30);
/// Minimum room for a read.
const READ_BYTES: usize = 64 << 10;
/// Longest body that is accepted, even if the daemon announces more. It is the maximum that its configuration allows.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Upper bound in bytes of unsent PINGs and PONGs. If the daemon does not read, more of them are useless.
const UNSENT_BYTES_MAX: usize = 4 << 10;

/// How a connection, or an attempt to connect, ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The daemon sent ERROR.
    #[error("{}: {}", code_name(.0.code), .0.text)]
    Refused(ErrorMessage),
    /// The peer violates the protocol.
    #[error("{0}")]
    Peer(WireError),
    /// The connection is lost.
    #[error("{0}")]
    Lost(String),
    /// Nothing was received for this time.
    #[error("nothing received for {0:?}")]
    Silent(Duration),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Peer(error)
    }
}

/// One connection; see the module.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    opened_at: Instant,
    incoming: BytesMut,
    /// Whole messages of `incoming` that were not returned yet.
    bodies: Option<Bodies>,
    /// The result of parsing the bytes behind `bodies`.
    judged: Result<(), WireError>,
    body_bytes_max: usize,
    /// Unsent PING and PONG messages.
    out: BytesMut,
    pong: Option<u64>,
    clock: Clock,
    /// A write has failed. Earlier messages of the daemon can still be read.
    is_deaf: bool,
}

impl Link {
    /// Connects and does the handshake.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping it closes the connection.
    pub(super) async fn open(
        address: &str,
        tls: Option<&tls::Client>,
        subscribe: &Subscribe,
    ) -> Result<(Self, Subscribed), Ended> {
        let connect = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let mut socket = Socket::connected(tcp, address, tls)?;
            socket.handshake().await?;
            io::Result::Ok(socket)
        };
        let mut socket = timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| Ended::Lost(format!("no connection to {address} within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| Ended::Lost(format!("cannot connect to {address}: {error}")))?;
        let mut out = BytesMut::new();
        subscribe.encode(&mut out);
        let mut incoming = BytesMut::with_capacity(READ_BYTES);
        let answered = timeout(SUBSCRIBED_TIMEOUT, shake_hands(&mut socket, &mut out, &mut incoming)).await;
        let subscribed = answered
            .map_err(|_| Ended::Lost(format!("no answer to SUBSCRIBE within {SUBSCRIBED_TIMEOUT:?}")))??;
        let now = Instant::now();
        let heartbeat = Duration::from_secs(u64::from(subscribed.heartbeat_s.max(1)));
        let body_bytes_max = (subscribed.max_message_bytes as usize).min(MESSAGE_BYTES_MAX);
        let link = Self {
            socket,
            opened_at: now,
            incoming,
            bodies: None,
            judged: Ok(()),
            body_bytes_max: body_bytes_max + DELIVER_EXCESS_BYTES,
            out,
            pong: None,
            clock: Clock::new(heartbeat, now),
            is_deaf: false,
        };
        Ok((link, subscribed))
    }

    pub(super) const fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// The next message in the bytes that were already read.
    pub(super) fn at_hand(&mut self) -> Result<Option<FeedMessage>, Ended> {
        loop {
            if let Some(body) = self.bodies.as_mut().and_then(Iterator::next) {
                return decode(body).map(Some);
            }
            std::mem::replace(&mut self.judged, Ok(()))?;
            let (bodies, judged) = take_bodies(&mut self.incoming, self.body_bytes_max);
            self.judged = judged;
            let is_empty = bodies.is_empty();
            self.bodies = Some(bodies).filter(|_| !is_empty);
            if is_empty && self.judged.is_ok() {
                return Ok(None);
            }
        }
    }

    /// Answers PING `nonce`. Only the newest PING needs an answer.
    pub(super) const fn answer(&mut self, nonce: u64) {
        self.pong = Some(nonce);
    }

    /// Waits for the next message. Writes PING and PONG meanwhile.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Result<FeedMessage, Ended> {
        self.clock.set_reading(true, Instant::now());
        loop {
            if let Some(message) = self.at_hand()? {
                // The caller does not read now, so this time does not count as silence of the daemon.
                self.clock.set_reading(false, Instant::now());
                return Ok(message);
            }
            self.exchange(true).await?;
        }
    }

    /// Sends a PING per heartbeat and reads nothing, so that the daemon does not close the connection as dead.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn hold(&mut self) -> Ended {
        self.clock.set_reading(false, Instant::now());
        loop {
            if let Err(ended) = self.exchange(false).await {
                return ended;
            }
        }
    }

    /// Does one step: writes, reads if `may_read`, or handles a timer.
    async fn exchange(&mut self, may_read: bool) -> Result<(), Ended> {
        if let Some(nonce) = self.pong.take() {
            self.say(SubscriberMessage::Pong(nonce));
        }
        let due_at = self.clock.next_due();
        self.incoming.reserve(READ_BYTES);
        let writes = !self.out.is_empty();
        tokio::select! {
            // Data in the socket is a sign of life, even if it is read late. So it is read before the timer is checked.
            biased;
            is_readable = self.socket.ready(may_read, writes) => {
                if is_readable? {
                    self.read()?;
                }
                self.write();
            }
            () = sleep_until(due_at) => match self.clock.act(Instant::now()) {
                Some(Due::Ping(nonce)) => self.say(SubscriberMessage::Ping(nonce)),
                Some(Due::Idle(silence)) => return Err(Ended::Silent(silence)),
                None => {}
            },
        }
        Ok(())
    }

    /// Reads once.
    fn read(&mut self) -> Result<(), Ended> {
        match self.socket.try_read_buf(&mut self.incoming) {
            Ok(0) => Err(Ended::Lost("the daemon closed the connection".to_owned())),
            Ok(_) => {
                self.clock.heard(Instant::now());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes as much as the socket takes.
    fn write(&mut self) {
        while !self.out.is_empty() {
            match self.socket.try_write(&self.out) {
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.out.clear();
                    self.is_deaf = true;
                }
            }
        }
    }

    /// Queues the message, unless the daemon does not even read the earlier ones.
    fn say(&mut self, message: SubscriberMessage) {
        if !self.is_deaf && self.out.len() < UNSENT_BYTES_MAX {
            message.encode(&mut self.out);
        }
    }
}

async fn shake_hands(
    socket: &mut Socket,
    out: &mut BytesMut,
    incoming: &mut BytesMut,
) -> Result<Subscribed, Ended> {
    // An ERROR may come before all bytes are written, because a daemon that is full does not read first.
    let wrote = async { socket.write_all_buf(out).await.and(socket.flush().await) }.await;
    out.clear();
    loop {
        while let Some(body) = next_body(incoming, HANDSHAKE_BODY_BYTES_MAX)? {
            match decode(body)? {
                FeedMessage::Subscribed(subscribed) => return Ok(subscribed),
                FeedMessage::Error(error) => return Err(Ended::Refused(error)),
                FeedMessage::Ignored(_) => {}
                other => return Err(WireError::protocol(format!("{other:?} before SUBSCRIBED")).into()),
            }
        }
        if socket.read_buf(incoming).await? == 0 {
            wrote?;
            return Err(Ended::Lost("the daemon closed the connection before SUBSCRIBED".to_owned()));
        }
    }
}

fn decode(body: Bytes) -> Result<FeedMessage, Ended> {
    FeedMessage::decode(body).map_err(Ended::Peer)
}
