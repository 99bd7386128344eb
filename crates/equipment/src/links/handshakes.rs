//! The TLS handshakes of peers that have connected to a link that listens.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use tls::Socket;

use connection::tcp;

/// The handshakes of a link, the oldest first, at most [`tcp::HANDSHAKES_MAX`]. A new handshake ends the oldest one, so that
/// peers without a complete handshake do not keep other peers out. Dropping this value ends all handshakes.
#[derive(Default)]
pub(super) struct Handshakes(VecDeque<(SocketAddr, Handshake)>);

type Handshake = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

impl Handshakes {
    /// Begins the handshake with `peer`. Returns the peer whose handshake has ended for it.
    pub(super) fn begin(&mut self, socket: Socket, peer: SocketAddr) -> Option<SocketAddr> {
        let evicted = if self.0.len() < tcp::HANDSHAKES_MAX { None } else { self.0.pop_front() };
        self.0.push_back((peer, Box::pin(tcp::shake_hands(socket))));
        evicted.map(|(peer, _)| peer)
    }

    /// Waits for the next handshake to end. A peer whose handshake is complete ends the handshakes of those that have
    /// connected before it, because the newest connection wins.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> (SocketAddr, io::Result<Socket>) {
        poll_fn(|cx| {
            for at in 0..self.0.len() {
                let (peer, handshake) = &mut self.0[at];
                if let Poll::Ready(shaken) = handshake.as_mut().poll(cx) {
                    let peer = *peer;
                    self.0.drain(if shaken.is_ok() { 0 } else { at }..=at);
                    return Poll::Ready((peer, shaken));
                }
            }
            Poll::Pending
        })
        .await
    }
}
