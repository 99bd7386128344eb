//! How many bytes the kernel of a TCP peer has acknowledged.

use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::TcpStream;

/// The option that returns what the kernel knows of a TCP connection.
#[derive(Clone, Copy, Debug)]
struct TcpInfo;

nix::getsockopt_impl!(
    TcpInfo,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info,
    sockopt::GetStruct<libc::tcp_info>
);

/// Counts the bytes that the peer's kernel has acknowledged since the connection was handed over.
///
/// The counter of the kernel (`tcpi_bytes_acked`) needs no ioctl and stays readable when the peer has reset the
/// connection. The length of the send queue, from which the bytes could be computed too, has neither advantage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    /// The kernel's counter before anything was written; `None` where the kernel has none. On the side that has
    /// connected it is 1, because the kernel counts the SYN as a byte.
    before: Option<u64>,
}

impl Acknowledged {
    /// Begins to count. The caller must not have written to `socket` yet.
    pub(super) fn new(socket: &TcpStream) -> Self {
        Self { before: counter(socket) }
    }

    /// How many of the `written` bytes are acknowledged; `None` where the kernel does not say. The result never exceeds
    /// `written`: the kernel also counts a FIN as a byte.
    pub(super) fn bytes(self, socket: &TcpStream, written: u64) -> Option<u64> {
        Some(counter(socket)?.saturating_sub(self.before?).min(written))
    }
}

fn counter(socket: &TcpStream) -> Option<u64> {
    info(socket).map(|info| info.tcpi_bytes_acked)
}

/// What the kernel knows of a connection.
pub(super) fn info(socket: &TcpStream) -> Option<libc::tcp_info> {
    getsockopt(&socket.as_fd(), TcpInfo).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn wait_for(acknowledged: Acknowledged, socket: &TcpStream, written: u64, expected: u64) {
        let is_there = async {
            while acknowledged.bytes(socket, written) != Some(expected) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_there).await.expect("the kernel acknowledges");
    }

    #[tokio::test]
    async fn bytes_count_on_both_sides_and_after_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut connected, mut accepted) = (connected.unwrap(), accepted.unwrap().0);
        let (by_peer, by_us) = (Acknowledged::new(&connected), Acknowledged::new(&accepted));
        assert_eq!((by_peer.bytes(&connected, 0), by_us.bytes(&accepted, 0)), (Some(0), Some(0)));
        accepted.write_all(&[1; 1_000]).await.unwrap();
        connected.write_all(&[2; 77]).await.unwrap();
        wait_for(by_us, &accepted, 1_000, 1_000).await;
        wait_for(by_peer, &connected, 77, 77).await;
        accepted.read_exact(&mut [0; 77]).await.unwrap();
        // A peer that closes with unread bytes resets the connection.
        drop(connected);
        accepted.readable().await.unwrap();
        assert!(accepted.read(&mut [0; 1]).await.is_err(), "the connection is reset");
        assert_eq!(by_us.bytes(&accepted, 1_000), Some(1_000));
    }
}
