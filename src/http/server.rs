//! Connections: as many as are allowed, each with time limits, so that none holds up another or stays for nothing.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::actor::{Address, Mailbox, Received, Tasks};
use crate::connection::listener::Acceptor;

/// Connections at a time; one more is closed without a word.
pub const CONNECTIONS_MAX: usize = 1_024;
/// What is read or written ahead of the socket, at most, but for a single answer.
const BUFFER_BYTES: usize = 16 << 10;
/// For the head of a request to be complete, and for the next request on a connection that stays.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Who takes nothing for so long of what is written is cut off.
const STALL_MAX: Duration = Duration::from_secs(15);

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A connection as the listener found it, with its place among [`CONNECTIONS_MAX`].
pub struct Accepted {
    socket: TcpStream,
    peer: SocketAddr,
    place: Place,
}

/// Takes connections from the listener.
#[derive(Clone)]
pub struct Connections {
    address: Address<Accepted>,
    taken: Arc<AtomicUsize>,
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Connections {
    pub(super) fn new(address: Address<Accepted>) -> Self {
        Self { address, taken: Arc::default() }
    }
}

impl Acceptor for Connections {
    async fn accepted(&self, socket: TcpStream, peer: SocketAddr) -> bool {
        let place = Place(Arc::clone(&self.taken));
        if self.taken.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            tracing::debug!(%peer, "closed without a word: {CONNECTIONS_MAX} HTTP connections are in use");
            return true;
        }
        self.address.send(Accepted { socket, peer, place }).await.is_ok()
    }
}

/// Serves what comes, until nobody accepts any more.
pub(super) async fn serve_all(mut mailbox: Mailbox<Accepted>, router: Router) {
    let mut connections = Tasks::new();
    loop {
        tokio::select! {
            received = mailbox.recv() => match received {
                Some(Received::Message(accepted)) => {
                    let router = router.clone().layer(Extension(Peer(accepted.peer)));
                    connections.spawn(format!("http from {}", accepted.peer), serve(accepted, router));
                }
                Some(_) => {}
                None => return,
            },
            // A panic in a handler was logged with the connection's name, and ends that connection.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(Accepted { socket, peer, place: _place }: Accepted, router: Router) {
    // A socket that refuses is dead, and the first read says so.
    let _ = socket.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Unstalled::new(socket)), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        // What peers do wrong is theirs.
        tracing::debug!(%peer, %error, "HTTP connection ended");
    }
}

/// A socket whose writes fail when the peer takes nothing for [`STALL_MAX`].
struct Unstalled {
    socket: TcpStream,
    stall: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Unstalled {
    fn new(socket: TcpStream) -> Self {
        Self { socket, stall: Box::pin(sleep(STALL_MAX)), is_waiting: false }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.is_waiting = false;
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

impl AsyncRead for Unstalled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl AsyncWrite for Unstalled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.judge(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
