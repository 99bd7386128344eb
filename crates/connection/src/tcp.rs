//! TCP connections of links and outputs: listen, connect, and find peers that are gone.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tls::Socket;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longest time of one attempt to connect, with name resolution and the TLS handshake, and of a TLS handshake with a peer
/// that has connected.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the first failure.
pub const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest pause. Each failure doubles the pause.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A connection that lasts this long sets the pause back.
pub const STABLE_AFTER: Duration = Duration::from_secs(10);
/// A peer whose kernel does not answer for this long is gone. On an idle connection this is `KEEPALIVE_IDLE` and three
/// probes.
pub const ANSWER_MAX: Duration = Duration::from_secs(60);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// TLS handshakes of a listener at the same time.
pub const HANDSHAKES_MAX: usize = 4;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// The pauses between attempts.
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_MIN)
    }
}

impl Backoff {
    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (2 * pause).min(BACKOFF_MAX);
        pause
    }
}

/// Connects to the first address of `host` that answers, with TLS if `client` is given.
pub async fn dial(host: &str, client: Option<&tls::Client>) -> io::Result<(Socket, SocketAddr)> {
    let connect = async {
        let tcp = TcpStream::connect(host).await?;
        let peer = tcp.peer_addr()?;
        let mut socket = Socket::connected(tcp, host, client)?;
        socket.handshake().await?;
        Ok((socket, peer))
    };
    let connected = timeout(CONNECT_TIMEOUT, connect).await;
    connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 10s"))?
}

/// Completes the TLS handshake of `socket`, which was accepted. The whole handshake has [`CONNECT_TIMEOUT`], even if bytes
/// come all the time.
pub async fn shake_hands(mut socket: Socket) -> io::Result<Socket> {
    let shaken = timeout(CONNECT_TIMEOUT, socket.handshake()).await;
    shaken.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no complete TLS handshake within 10s"))??;
    Ok(socket)
}

/// Listens on `address`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Makes the kernel find out when the peer is gone: a connection may be silent for hours.
pub fn keep_alive(socket: &TcpStream) {
    let settings =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(3);
    // A socket that refuses the option is dead. The first read reports the error.
    let _ = SockRef::from(socket).set_tcp_keepalive(&settings);
    limit_unacknowledged(socket, true);
}

/// Sets whether the kernel ends the connection when bytes wait for [`ANSWER_MAX`]: sent ones for an acknowledgement, others
/// for room at the peer.
pub fn limit_unacknowledged(socket: &TcpStream, is_limited: bool) {
    let _ = SockRef::from(socket).set_tcp_user_timeout(is_limited.then_some(ANSWER_MAX));
}
