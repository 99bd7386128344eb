//! The entrance: connections that have not yet identified themselves have permits of their own, apart from
//! those of sources and subscribers.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tls::{Socket, TlsError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::closing::{say_at_once, say_error};
use super::refusals::{Listener, Reason, Refusals};
use super::unauthenticated::{Group, Unauthenticated};
use wire::framing::PREFIX_BYTES;
use wire::{ErrorCode, HANDSHAKE_BODY_BYTES_MAX, WireError, cut};

/// Most connections of a listener that have not yet sent a valid HELLO or SUBSCRIBE. One more evicts another.
pub const UNAUTHENTICATED_MAX: usize = 256;
/// Most refused connections of a listener that get the reason and time to read it. Others get what the socket
/// takes at once.
pub const PARTING_MAX: usize = 64;
/// Upper bound of each of these in bytes: its task, a handshake of at most 4 KiB, and the buffer that
/// discards input at the end.
pub const UNAUTHENTICATED_BYTES: u64 = 24 << 10;

/// Bytes to read at a time of a first message.
const READ_BYTES: usize = 512;
/// The first bytes of a client that speaks TLS. As the length of a message they are far too large.
const TLS_HANDSHAKE: &[u8] = &[22, 3];

/// The entrance of one listener.
#[derive(Debug)]
pub struct Entrance {
    /// The listener, as refusals name it.
    listener: Listener,
    /// [`UNAUTHENTICATED_MAX`] places.
    places: Arc<Semaphore>,
    /// The connections that may be evicted.
    unauthenticated: Mutex<Unauthenticated>,
    /// [`PARTING_MAX`] places of connections that get time to read why they are refused.
    parting: Semaphore,
    /// Where refusals are noted.
    refusals: Arc<Refusals>,
}

/// The permit of one of [`UNAUTHENTICATED_MAX`] connections. Dropping it frees the permit.
#[derive(Debug)]
pub struct Permit {
    /// The entrance that gave the permit.
    entrance: Arc<Entrance>,
    /// The address of the connection.
    peer: SocketAddr,
    /// Its id among the connections that may be evicted.
    id: u64,
    /// Notified when the connection is evicted.
    evict: Arc<Notify>,
    /// The place at the entrance.
    _slot: OwnedSemaphorePermit,
}

/// The first message of a peer, and the bytes behind it.
#[derive(Debug)]
pub struct First {
    /// The body of the first message.
    pub body: Vec<u8>,
    /// The bytes that came behind the message.
    pub rest: Vec<u8>,
}

/// Why a peer sent no message that could be checked.
#[derive(Debug)]
pub enum FirstMessageError {
    /// The peer is to be refused with this error.
    Error(WireError),
    /// The peer has gone, or was evicted and has been informed.
    Lost(io::Error),
}

impl Entrance {
    /// The entrance of `listener`. It notes refused connections in `refusals`.
    #[must_use]
    pub fn new(listener: Listener, refusals: Arc<Refusals>) -> Arc<Self> {
        Arc::new(Self {
            listener,
            places: Arc::new(Semaphore::new(UNAUTHENTICATED_MAX)),
            unauthenticated: Mutex::default(),
            parting: Semaphore::new(PARTING_MAX),
            refusals,
        })
    }

    /// Gives a connection from `peer` a permit. While all permits are taken, another connection is evicted.
    /// The wait for its end is short, because an evicted connection reads only input that has already come.
    ///
    /// `None` when the daemon ends. Cancel safe.
    pub async fn enter(self: &Arc<Self>, peer: SocketAddr) -> Option<Permit> {
        let group = Group::of(peer.ip());
        let places = Arc::clone(&self.places);
        let slot = match Arc::clone(&places).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                self.lock().evict_for(group);
                places.acquire_owned().await.ok()?
            }
        };
        let evict = Arc::<Notify>::default();
        let id = self.lock().add(group, Arc::clone(&evict));
        Some(Permit { entrance: Arc::clone(self), peer, id, evict, _slot: slot })
    }

    /// Notes that a connection from `peer` is refused, or ends because of what the peer did.
    pub fn note(&self, peer: SocketAddr, error: &WireError) {
        self.refusals.note(self.listener, peer, Reason::Code(error.code), &error.text);
    }

    /// Notes why a connection from `peer` is refused, and informs the peer. The caller must drop the permit
    /// of the connection first.
    pub async fn refuse(&self, socket: &mut Socket, peer: SocketAddr, error: &WireError) {
        self.note(peer, error);
        self.part(socket, BytesMut::new(), error).await;
    }

    /// Writes `known`, then `error`, and closes. While many connections are being closed, the peer gets no
    /// time to read these messages.
    pub async fn part(&self, socket: &mut Socket, known: BytesMut, error: &WireError) {
        match self.parting.try_acquire() {
            Ok(_parting) => say_error(socket, known, error).await,
            Err(_) => say_at_once(socket, known, error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unauthenticated> {
        // No critical section panics half-way, so a poisoned lock still guards a consistent state.
        self.unauthenticated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Does the TLS handshake, if there is one, and reads the first message, which must be complete within `limit`.
    /// From then on, the connection is not evicted.
    ///
    /// A connection that is evicted, or whose time is up, is judged by the bytes that have come by then: a
    /// busy daemon may not have read them yet.
    pub async fn first_message(
        &self,
        socket: &mut Socket,
        limit: Duration,
        name: &str,
    ) -> Result<First, FirstMessageError> {
        let mut unread = Vec::new();
        let is_evicted = tokio::select! {
            first = read_first(socket, &mut unread) => return first.inspect(|_| self.keep()),
            () = self.evict.notified() => true,
            () = sleep(limit) => false,
        };
        if let Some(first) = look(socket, unread)? {
            self.keep();
            return Ok(first);
        }
        let text = format!("no complete {name} within {limit:?}");
        if !is_evicted {
            return Err(FirstMessageError::Error(WireError::new(ErrorCode::Idle, text)));
        }
        let text = format!(
            "more than {UNAUTHENTICATED_MAX} connections have not sent {name} yet, so this one is closed; send \
             {name} at once after connecting"
        );
        self.entrance.refusals.note(self.entrance.listener, self.peer, Reason::Evicted, &text);
        say_at_once(socket, BytesMut::new(), &WireError::new(ErrorCode::Busy, text));
        Err(FirstMessageError::Lost(io::ErrorKind::ConnectionAborted.into()))
    }

    /// Protects this connection from eviction: from then on, another one is evicted.
    fn keep(&self) {
        self.entrance.lock().remove(Group::of(self.peer.ip()), self.id);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.keep();
    }
}

/// Reads until the first message is complete. Cancel safe: `unread` holds the bytes read.
async fn read_first(socket: &mut Socket, unread: &mut Vec<u8>) -> Result<First, FirstMessageError> {
    loop {
        if let Some(first) = take_first(unread)? {
            return Ok(first);
        }
        socket.readable().await?;
        unread.reserve(READ_BYTES);
        match socket.try_read_buf(unread) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the first message, if it has come. Reads the socket directly, because the runtime may not know yet
/// that there is input.
fn look(socket: &mut Socket, mut unread: Vec<u8>) -> Result<Option<First>, FirstMessageError> {
    loop {
        if let Some(first) = take_first(&mut unread)? {
            return Ok(Some(first));
        }
        unread.reserve(READ_BYTES);
        match socket.read_now(&mut unread) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the first message out of `unread`, if it is whole.
fn take_first(unread: &mut Vec<u8>) -> Result<Option<First>, WireError> {
    let is_tls = unread.starts_with(TLS_HANDSHAKE);
    let mut bodies = cut(unread, HANDSHAKE_BODY_BYTES_MAX);
    let is_whole = bodies.next().is_some();
    let (end, judged) = bodies.end();
    judged.map_err(|error| if is_tls { looks_like_tls() } else { error })?;
    if !is_whole {
        return Ok(None);
    }
    let rest = unread.split_off(end);
    let body = unread.split_off(PREFIX_BYTES);
    Ok(Some(First { body, rest }))
}

fn looks_like_tls() -> WireError {
    let text = "this looks like TLS, and this listener does not speak it (tls.certificate)";
    WireError::new(ErrorCode::TooLarge, text)
}

impl From<WireError> for FirstMessageError {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for FirstMessageError {
    /// A failed TLS handshake is a refusal. The peer gets an alert, or the ERROR if it does not speak TLS.
    fn from(error: io::Error) -> Self {
        match TlsError::of(&error) {
            None | Some(TlsError::Closed) => Self::Lost(error),
            Some(TlsError::NotTls) => Self::Error(WireError::protocol(error.to_string())),
            Some(TlsError::TooLong | TlsError::Failed(_)) => {
                Self::Error(WireError::new(ErrorCode::Unauthorized, error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Longer than any test, so that no time limit passes.
    const LIMIT: Duration = Duration::from_secs(600);

    async fn pair(listener: &TcpListener) -> (TcpStream, Socket, SocketAddr) {
        let (peer, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (socket, from) = accepted.unwrap();
        (peer.unwrap(), socket.into(), from)
    }

    fn message(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    fn entrance() -> Arc<Entrance> {
        Entrance::new(Listener::Ingest, Arc::default())
    }

    #[tokio::test]
    async fn the_first_message_is_taken_and_later_bytes_are_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut peer, mut socket, from) = pair(&listener).await;
        let permit = entrance().enter(from).await.unwrap();
        peer.write_all(&[message(b"hello"), message(b"more")].concat()).await.unwrap();
        let First { body, rest } = permit.first_message(&mut socket, LIMIT, "HELLO").await.unwrap();
        assert_eq!(body, b"hello");
        assert!(message(b"more").starts_with(&rest));
    }

    #[tokio::test]
    async fn a_first_message_that_claims_too_much_is_refused_by_its_prefix() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut peer, mut socket, from) = pair(&listener).await;
        let permit = entrance().enter(from).await.unwrap();
        peer.write_all(&4097u32.to_be_bytes()).await.unwrap();
        let heard = permit.first_message(&mut socket, LIMIT, "HELLO").await;
        assert!(matches!(heard, Err(FirstMessageError::Error(error)) if error.code == ErrorCode::TooLarge));
    }

    /// The runtime has not seen the input; the socket has it.
    #[tokio::test]
    async fn an_evicted_connection_with_a_complete_message_is_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let entrance = entrance();
        let mut places = Vec::new();
        for _ in 0..UNAUTHENTICATED_MAX {
            places.push(entrance.enter(([127, 0, 0, 9], 1).into()).await.unwrap());
        }
        let (mut eager, mut eager_socket, _) = pair(&listener).await;
        let (mut silent, mut silent_socket, from) = pair(&listener).await;
        eager.write_all(&message(b"hello")).await.unwrap();
        let (eager_place, silent_place) = (&places[0], &places[1]);
        eager_place.evict.notify_one();
        silent_place.evict.notify_one();
        let heard = eager_place.first_message(&mut eager_socket, Duration::ZERO, "HELLO").await;
        assert_eq!(heard.unwrap().body, b"hello");
        let heard = silent_place.first_message(&mut silent_socket, LIMIT, "HELLO").await;
        assert!(matches!(heard, Err(FirstMessageError::Lost(_))));
        drop(silent_socket);
        let mut answer = Vec::new();
        silent.read_to_end(&mut answer).await.unwrap();
        assert_eq!((answer[4], answer[7]), (0x09, ErrorCode::Busy as u8), "ERROR busy: {answer:?}");
        let newest = entrance.refusals.newest();
        assert_eq!((newest.len(), newest[0].reason), (1, Reason::Evicted));
        drop(places.pop());
        assert!(entrance.enter(from).await.is_some());
    }

    #[tokio::test]
    async fn a_full_entrance_waits_until_the_evicted_connection_leaves() {
        let entrance = entrance();
        let mut places = Vec::new();
        for _ in 0..UNAUTHENTICATED_MAX {
            places.push(entrance.enter(([127, 0, 0, 9], 1).into()).await.unwrap());
        }
        let newcomer = entrance.enter(([127, 0, 0, 8], 1).into());
        let oldest = places.remove(0);
        let leaves = async {
            oldest.evict.notified().await;
            drop(oldest);
        };
        let (entered, ()) = tokio::join!(newcomer, leaves);
        assert!(entered.is_some());
    }
}
