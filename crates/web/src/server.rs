//! Connections: their number is limited and each has time limits, so that no client blocks others or stays idle.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use bytes::BytesMut;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tls::{Socket, TlsError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use actor::{Address, Mailbox, Received, Tasks};
use api::NOT_TLS;
use config::{ConfigHandle, HTTP_CONNECTIONS_MAX};
use connection::closing::{say, write_at_once};
use connection::listener::Acceptor;
use connection::refusals::Reason;
use connection::shares::{NoPlace, Share, Shares};
use connection::{Listener, Refusals};
use observe::Handles;
use wire::ErrorCode;

/// Memory of a connection without a long response: its task, a request, a small body, and the buffers of the socket.
pub(super) const CONNECTION_BYTES: usize = 64 << 10;
/// This many of the connections are reserved for this host, so that a local health check is answered under load from
/// elsewhere.
const FOR_THIS_HOST: usize = 32;
/// Upper bound in bytes of each buffer of the socket, without the last piece of a response. Heads of responses to
/// pipelined requests are several times larger than the requests.
const BUFFER_BYTES: usize = 8 << 10;
/// A request must send its complete head within this time. An idle connection must send its next request within this
/// time.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// A client that does not take the pending output (a response or a piece of an event) within this time is cut off.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The response to a connection beyond the limit.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The address of the client.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// An accepted connection with its place among [`HTTP_CONNECTIONS_MAX`].
pub struct Accepted {
    socket: TcpStream,
    peer: SocketAddr,
    place: Share,
}

/// Takes connections from the listener.
#[derive(Clone)]
pub struct Connections {
    address: Address<Accepted>,
    taken: Arc<Shares>,
    refusals: Arc<Refusals>,
    live: ConfigHandle,
}

impl Connections {
    pub(super) fn new(address: Address<Accepted>, refusals: Arc<Refusals>, live: ConfigHandle) -> Self {
        Self { address, taken: Arc::default(), refusals, live }
    }
}

impl Acceptor for Connections {
    async fn accepted(&self, socket: TcpStream, peer: SocketAddr) -> bool {
        let is_here = peer.ip().to_canonical().is_loopback();
        let max = if is_here { HTTP_CONNECTIONS_MAX } else { HTTP_CONNECTIONS_MAX - FOR_THIS_HOST };
        let place = match self.taken.take(peer.ip(), max) {
            Ok(place) => place,
            Err(NoPlace { has }) => {
                let text = format!(
                    "{} has {has} of {max} HTTP connections, which is all it can have now",
                    peer.ip()
                );
                self.refusals.note(Listener::Http, peer, Reason::Code(ErrorCode::Busy), &text);
                // Over TLS, an answer would need a handshake. Such a client only sees the end of the connection.
                if http_tls(&self.live).is_none() {
                    write_at_once(&mut socket.into(), BUSY);
                }
                return true;
            }
        };
        self.address.send(Accepted { socket, peer, place }).await.is_ok()
    }
}

/// Serves connections until all senders of the mailbox are dropped.
pub(super) async fn serve_all(mut mailbox: Mailbox<Accepted>, router: Router, handles: Arc<Handles>) {
    let mut connections = Tasks::new();
    loop {
        tokio::select! {
            received = mailbox.recv() => match received {
                Some(Received::Message(accepted)) => {
                    let router = router.clone().layer(Extension(Peer(accepted.peer)));
                    let name = format!("http from {}", accepted.peer);
                    connections.spawn(name, serve(accepted, router, Arc::clone(&handles)));
                }
                Some(_) => {}
                None => return,
            },
            // A panic in a handler is already logged with the connection's name. It ends only that connection.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(accepted: Accepted, router: Router, handles: Arc<Handles>) {
    let Accepted { socket, peer, place: _place } = accepted;
    // If this fails, the socket is dead, and the first read reports the error.
    let _ = socket.set_nodelay(true);
    let socket = match open(socket, http_tls(&handles.live)).await {
        Ok(socket) => socket,
        Err(error) => {
            // A check of the port that sends nothing does not count as a refusal.
            if !matches!(TlsError::of(&error), None | Some(TlsError::Closed)) {
                let reason = Reason::Code(ErrorCode::Unauthorized);
                handles.refusals.note(Listener::Http, peer, reason, &error.to_string());
            }
            return;
        }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(WriteTimeout::new(socket)), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        // Errors of peers are logged at debug only.
        tracing::debug!(%peer, %error, "HTTP connection ended");
    }
}

/// TLS of new connections, if they are encrypted.
fn http_tls(live: &ConfigHandle) -> Option<tls::Server> {
    live.current().tls.files.sides.http.clone()
}

/// Does the TLS handshake, if there is one. A client that does not speak TLS gets an error in plain text.
async fn open(socket: TcpStream, tls: Option<tls::Server>) -> io::Result<Socket> {
    let mut socket = Socket::accepted(socket, tls.as_ref())?;
    let shaken = timeout(HEAD_MAX, socket.handshake()).await;
    let Err(error) = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) else {
        return Ok(socket);
    };
    let answer = if TlsError::of(&error) == Some(&TlsError::NotTls) {
        format!(
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{NOT_TLS}",
            NOT_TLS.len()
        )
    } else {
        String::new()
    };
    say(&mut socket, BytesMut::from(answer.as_bytes())).await;
    Err(error)
}

/// A socket whose writes fail when the peer takes longer than [`STALL_MAX`] to take the output up to the flush.
///
/// It reads nothing meanwhile. A client that pipelines requests without reading responses must not make us buffer them
/// all.
struct WriteTimeout {
    socket: Socket,
    stall: Pin<Box<Sleep>>,
    is_waiting: bool,
    is_read_deferred: bool,
}

impl WriteTimeout {
    fn new(socket: Socket) -> Self {
        Self { socket, stall: Box::pin(sleep(STALL_MAX)), is_waiting: false, is_read_deferred: false }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            return poll;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.stall.as_mut().reset(Instant::now() + STALL_MAX);
        }
        match self.stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_waiting {
            self.is_read_deferred = true;
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.judge(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.judge(cx, poll)
    }

    /// Reports true, so that long responses are not copied together with their heads.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What TLS has accepted may still wait for the client.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.socket).poll_flush(cx);
        if poll.is_ready() {
            self.is_waiting = false;
            if std::mem::take(&mut self.is_read_deferred) {
                cx.waker().wake_by_ref();
            }
        }
        self.judge(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.judge(cx, poll)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (WriteTimeout, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (WriteTimeout::new(accepted.unwrap().0.into()), peer.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off() {
        let (mut ours, _peer) = pair().await;
        let began = Instant::now();
        let error = loop {
            if let Err(error) = ours.write_all(&[0; 1 << 20]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= STALL_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_little_now_and_then_is_cut_off() {
        let (mut ours, mut peer) = pair().await;
        let trickle = async {
            let mut taken = vec![0; 1 << 20];
            loop {
                sleep(STALL_MAX / 10).await;
                peer.read_exact(&mut taken).await.unwrap();
            }
        };
        let answer = vec![0; 100 << 20];
        let error = tokio::select! {
            written = ours.write_all(&answer) => written.unwrap_err(),
            () = trickle => unreachable!("it goes on until then"),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn nothing_is_read_from_a_client_until_it_reads() {
        let (mut ours, mut peer) = pair().await;
        peer.write_all(b"and on").await.unwrap();
        let mut asked = [0; 6];
        ours.is_waiting = true;
        let is_read = tokio::select! {
            biased;
            _ = ours.read_exact(&mut asked) => true,
            () = tokio::task::yield_now() => false,
        };
        assert!(!is_read, "it waits for a reader");
        ours.flush().await.unwrap();
        ours.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"and on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_each_answer_in_time_stays() {
        let (mut ours, mut peer) = pair().await;
        let mut taken = vec![0; 8 << 20];
        for _ in 0..4 {
            let answer = vec![0; taken.len()];
            let take = async {
                sleep(STALL_MAX / 2).await;
                peer.read_exact(&mut taken).await.unwrap();
            };
            let give = async {
                ours.write_all(&answer).await.unwrap();
                ours.flush().await.unwrap();
            };
            tokio::join!(give, take);
        }
    }
}
