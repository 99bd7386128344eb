//! Opens a connection and transfers its bytes.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tls::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::conversation::{Conversation, End};
use super::{Script, SourceError};
use wire::{HANDSHAKE_BODY_BYTES_MAX, Hello, ServerMessage, Welcome, WireError, next_body, take_bodies};

/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for the server to answer HELLO.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time, after a failed write, to read what the server sent before it closed.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// Most unsent bytes in the socket. An emergency waits for these bytes, because they are sent first.
const NOTSENT_LOWAT_BYTES: u32 = 32 << 10;
/// Least room for a read.
const READ_BYTES: usize = 4 << 10;

/// Why an attempt to connect failed.
pub enum Refusal {
    /// Another attempt may succeed.
    Lost(End),
    /// The source ends.
    Final(SourceError),
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Final(error)
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::Final(error.into())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Lost(End::lost(error.to_string()))
    }
}

/// Connects and shakes hands. Returns the bytes that came behind WELCOME. Cancel safe: a connection that is
/// dropped here has sent no frame.
pub async fn open(
    address: &str,
    tls: Option<&tls::Client>,
    hello: &Hello,
) -> Result<(Socket, Welcome, BytesMut), Refusal> {
    greet(connect(address, tls).await?, hello).await
}

/// The first half of [`open`]. Connects to `address`, which is `host:port`, with TLS if `tls` is given.
pub async fn connect(address: &str, tls: Option<&tls::Client>) -> Result<Socket, Refusal> {
    let connect = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        hold_little_unsent(&tcp);
        let mut socket = Socket::connected(tcp, address, tls)?;
        socket.handshake().await?;
        Ok(socket)
    };
    timeout(CONNECT_TIMEOUT, connect)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")))
        .map_err(|error| Refusal::Lost(End::lost(format!("cannot connect to {address}: {error}"))))
}

/// The second half of [`open`].
pub async fn greet(mut socket: Socket, hello: &Hello) -> Result<(Socket, Welcome, BytesMut), Refusal> {
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    socket.write_all(&out).await?;
    socket.flush().await?;
    let mut incoming = BytesMut::with_capacity(READ_BYTES);
    let welcome = timeout(WELCOME_TIMEOUT, read_welcome(&mut socket, &mut incoming))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no WELCOME in time"))??;
    Ok((socket, welcome, incoming))
}

async fn read_welcome(socket: &mut Socket, incoming: &mut BytesMut) -> Result<Welcome, Refusal> {
    loop {
        while let Some(body) = next_body(incoming, HANDSHAKE_BODY_BYTES_MAX)? {
            match ServerMessage::decode(body)? {
                ServerMessage::Welcome(welcome) => return Ok(welcome),
                ServerMessage::Ignored(_) => {}
                ServerMessage::Error(error) => return Err(Refusal::Lost(End::refused(error)?)),
                other => return Err(WireError::protocol(format!("{other:?} before WELCOME")).into()),
            }
        }
        if socket.read_buf(incoming).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before WELCOME").into());
        }
    }
}

/// Systems without such a limit rely on small writes.
fn hold_little_unsent(socket: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES) {
        tracing::debug!(%error, "cannot limit unsent bytes");
    }
}

/// Transfers bytes between the socket and `conversation` until one of them ends. Reading and writing do not
/// wait for one another.
pub async fn converse<S: Script>(
    mut socket: Socket,
    mut incoming: BytesMut,
    conversation: &mut Conversation<'_, S>,
) -> Result<End, SourceError> {
    let mut out = BytesMut::new();
    let mut broken: Option<(Instant, End)> = None;
    if let Some(end) = receive_all(&mut incoming, conversation, Instant::now())? {
        return Ok(end);
    }
    loop {
        let now = Instant::now();
        if out.is_empty() && broken.is_none() {
            // Written bytes are before the start of the buffer. This moves the start back and allocates
            // nothing.
            let _ = out.try_reclaim(out.capacity() + 1);
            conversation.fill(&mut out, now)?;
        }
        let last_words_at = broken.as_ref().map(|(at, _)| *at);
        let wake_at = [conversation.wake_at(out.is_empty(), now), last_words_at].into_iter().flatten().min();
        incoming.reserve(READ_BYTES);
        tokio::select! {
            ready = socket.ready(true, !out.is_empty()) => {
                let now = Instant::now();
                match ready.and_then(|is_readable| read(&mut socket, &mut incoming, is_readable)) {
                    Ok(Some(0)) => return Ok(broken.map_or_else(|| End::lost("the server closed"), |(_, end)| end)),
                    Ok(Some(_)) => {
                        conversation.heard(now);
                        if let Some(end) = receive_all(&mut incoming, conversation, now)? {
                            return Ok(end);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => return Ok(End::lost(error.to_string())),
                }
                // A server that always has something to read must not keep the frames from being written.
                if !out.is_empty() {
                    match socket.try_write(&out) {
                        Ok(count) => out.advance(count),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        Err(error) => {
                            // The receive buffer may still hold an ERROR with the reason.
                            out.clear();
                            broken = Some((now + LAST_WORDS_TIMEOUT, End::lost(error.to_string())));
                        }
                    }
                    conversation.wrote(out.is_empty(), now);
                }
            }
            () = conversation.script().changed() => {}
            () = wake_up(wake_at) => {
                let now = Instant::now();
                if let Some((at, end)) = broken.take_if(|(at, _)| *at <= now) {
                    tracing::trace!(?at, "the server sent no reason");
                    return Ok(end);
                }
                if let Some(end) = conversation.wake(&mut out, now) {
                    return Ok(end);
                }
            }
        }
    }
}

/// Reads once if the socket is readable. `None` if there is nothing to read.
fn read(socket: &mut Socket, incoming: &mut BytesMut, is_readable: bool) -> io::Result<Option<usize>> {
    if !is_readable {
        return Ok(None);
    }
    match socket.try_read_buf(incoming) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

async fn wake_up(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Hands every complete message to `conversation`.
fn receive_all<S: Script>(
    incoming: &mut BytesMut,
    conversation: &mut Conversation<'_, S>,
    now: Instant,
) -> Result<Option<End>, SourceError> {
    let (bodies, checked) = take_bodies(incoming, conversation.max_message_bytes());
    for body in bodies {
        if let Some(end) = conversation.receive(ServerMessage::decode(body)?, now)? {
            return Ok(Some(end));
        }
    }
    checked?;
    Ok(None)
}
