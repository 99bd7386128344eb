//! The router: the actor that owns every session and knows every source (RFC-0047, "Router actor").
//!
//! [`Router`] is its control face: add a source, list the sources, remove one, end them all. The actor is in
//! `sessions`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::IngestConfig;
use super::flow::StreamState;
use super::link_stream::{Carrier, LinkStream};
use super::opened::Opened;
use super::stream::StreamOwner;
use actor::{Address, CallError, Reply};
use connection::SessionId;
use connection::entrance::{Entrance, Permit};
use connection::listener::Acceptor;
use frame::{Lanes, Origin, Station, StreamKey};
use wire::{ErrorCode, WireError};

mod sessions;

/// Longest time of a request. The router only reads tables, so a longer time means that it hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A source as the router knows it: one connection and the stream it carries.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// The connection.
    pub session_id: SessionId,
    /// The stream and its epoch.
    pub origin: Arc<Origin>,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// When it was registered, unix nanoseconds.
    pub since_ns: i64,
    /// The name of the daemon that forwards the stream. Empty for a source of its own.
    pub via: Station,
}

/// The epoch in which a stream is opened.
#[derive(Clone, Copy)]
pub(super) enum Epoch {
    /// An epoch of its own that no other connection has, and that is not kept.
    Anonymous,
    /// The epoch that the client named.
    Named(u64),
    /// An epoch that is over, which a forwarder still brings. The archive has what is below `next`.
    Earlier { epoch: u64, next: Lanes<u64> },
    /// The stream's current epoch, 1 for a new stream.
    Current,
    /// As [`Epoch::Current`]. The peer of the link chose the source. If the stream is new and this many streams of the
    /// link have a position, the stream gets an epoch of its own as with [`Epoch::Anonymous`].
    Invented { max: usize },
}

/// The request to open a stream.
#[derive(Clone)]
pub(super) struct Opening {
    /// The key of the stream.
    pub(super) stream: StreamKey,
    /// In which epoch.
    pub(super) epoch: Epoch,
    /// The session or the link that will speak for it.
    pub(super) owner: StreamOwner,
    /// The limits of the connection.
    pub(super) config: Arc<IngestConfig>,
    /// The daemon that forwards the stream, or empty.
    pub(super) via: Station,
}

/// A request to the router.
enum Message {
    /// A connection from the listener, with its place at the entrance.
    Accepted { socket: TcpStream, peer: SocketAddr, permit: Permit },
    /// [`Router::open`].
    Open { opening: Box<Opening>, reply: Reply<Result<Opened, WireError>> },
    /// [`Router::carry`].
    Carry { stream: StreamKey, epoch: Epoch, carrier: Carrier, reply: Reply<Result<Opened, WireError>> },
    /// [`Router::release`], after the stream was released.
    Released(SessionId),
    /// [`Router::remove`].
    Remove { session_id: SessionId, reply: Reply<bool> },
    /// [`Router::list`].
    List { reply: Reply<Vec<SourceInfo>> },
    /// [`Router::stop_all`].
    StopAll(WireError),
    /// [`Router::drain`].
    Drain { reply: Reply<()> },
    /// [`Router::names`].
    Names { reply: Reply<Vec<String>> },
}

/// A handle to the router. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Router {
    /// The mailbox of the actor.
    address: Address<Message>,
    /// Holds connections until they have said a valid HELLO.
    entrance: Arc<Entrance>,
}

/// Lists the registered sources. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SourceList(Router);

impl SourceList {
    /// The registered sources, in the order of their sessions. Empty when the router has ended, as it does in a drain.
    pub async fn current(&self) -> Vec<SourceInfo> {
        self.0.list().await.unwrap_or_default()
    }
}

/// The router has ended, or hangs. It ends with a drain.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the router does not answer: {0}")]
pub struct RouterError(#[from] CallError);

impl Router {
    /// Opens a stream for a session and registers the source. The source stays registered until the session has ended.
    ///
    /// # Errors
    /// `draining` once a drain has begun; `busy`, `limit` or `fenced` as the limits and the stream say.
    pub(super) async fn open(&self, opening: Opening) -> Result<Opened, WireError> {
        let opening = Box::new(opening);
        let opened = self.address.call(CALL_TIMEOUT, |reply| Message::Open { opening, reply }).await;
        opened.unwrap_or_else(|error| Err(unanswered(error)))
    }

    /// Opens `stream` for a link in its current epoch and at its current position, and registers the source. The
    /// source stays registered until `carrier.session` has ended or the stream is dropped.
    ///
    /// `invented_max` is given where the peer of the link chose the source: at most this many such streams of the link
    /// have a position. A stream beyond them has an epoch of its own, which ends with the stream.
    ///
    /// # Errors
    /// `draining` once a drain has begun, `busy` when another link or a connection speaks for the stream, `limit` as
    /// the limits of streams say.
    pub async fn carry(
        &self,
        stream: StreamKey,
        invented_max: Option<usize>,
        carrier: Carrier,
    ) -> Result<LinkStream, WireError> {
        let epoch = invented_max.map_or(Epoch::Current, |max| Epoch::Invented { max });
        let carry = |reply| Message::Carry { stream, epoch, carrier, reply };
        let opened = self.address.call(CALL_TIMEOUT, carry).await;
        opened.unwrap_or_else(|error| Err(unanswered(error))).map(LinkStream::new)
    }

    /// Releases `stream`, whose connection goes on. `state` is what operators see.
    pub async fn release(&self, stream: LinkStream, state: StreamState) {
        let session_id = stream.session_id();
        stream.end(state);
        // A router that is gone has no sessions.
        let _ = self.address.send(Message::Released(session_id)).await;
    }

    /// Orders the session of a source to end with ERROR `removed`. Returns false when there is no such source.
    ///
    /// Frames that the session has handed over stay queued and are archived.
    ///
    /// # Errors
    /// When the router has ended, or hangs.
    pub async fn remove(&self, session_id: SessionId) -> Result<bool, RouterError> {
        Ok(self.address.call(CALL_TIMEOUT, |reply| Message::Remove { session_id, reply }).await?)
    }

    /// A handle that only lists the sources.
    #[must_use]
    pub fn sources(&self) -> SourceList {
        SourceList(self.clone())
    }

    /// The registered sources, in the order of their sessions.
    ///
    /// # Errors
    /// When the router has ended, or hangs.
    pub async fn list(&self) -> Result<Vec<SourceInfo>, RouterError> {
        Ok(self.address.call(CALL_TIMEOUT, |reply| Message::List { reply }).await?)
    }

    /// Orders every session to end with `error`.
    pub async fn stop_all(&self, error: WireError) {
        // A router that is gone has no sessions.
        let _ = self.address.send_urgent(Message::StopAll(error)).await;
    }

    /// Refuses new connections, waits until every session has ended by itself, and reports to the fan-in that no
    /// more frames will come. The router has then ended.
    ///
    /// # Errors
    /// When the router has ended before, or `timeout` passes first. [`Router::names`] returns the sessions that are
    /// left.
    pub async fn drain(&self, timeout: Duration) -> Result<(), RouterError> {
        Ok(self.address.call_urgent(timeout, |reply| Message::Drain { reply }).await?)
    }

    /// The names, as in the log, of the sessions that have not ended.
    ///
    /// # Errors
    /// When the router has ended, or hangs.
    pub async fn names(&self) -> Result<Vec<String>, RouterError> {
        Ok(self.address.call_urgent(CALL_TIMEOUT, |reply| Message::Names { reply }).await?)
    }
}

/// The error for a client when the router has ended, as it does in a drain, or hangs.
fn unanswered(error: CallError) -> WireError {
    WireError::new(ErrorCode::Draining, format!("the daemon is ending: {error}"))
}

impl Acceptor for Router {
    async fn accepted(&self, socket: TcpStream, peer: SocketAddr) -> bool {
        let Some(permit) = self.entrance.enter(peer).await else { return false };
        self.address.send(Message::Accepted { socket, peer, permit }).await.is_ok()
    }
}
