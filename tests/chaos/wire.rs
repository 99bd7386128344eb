//! A connection that cuts the bytes of the daemon into bodies and expects that it breaks at any byte.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest time until a connection is established.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Longest time in which the peer takes nothing of what is written.
const WRITE_MAX: Duration = Duration::from_secs(4);
/// Longest body that the daemon may send in these tests.
const BODY_BYTES_MAX: usize = 256 << 10;

/// The result of waiting for a body.
pub enum Event {
    Body(Vec<u8>),
    /// The connection ended, in order or not.
    Broken,
    Silence,
}

/// One connection to a listener of the daemon.
pub struct Connection {
    socket: TcpStream,
    unread: Vec<u8>,
    /// The position in `unread` where the next body begins.
    at: usize,
    heard_at: Instant,
    has_asked: bool,
    heartbeat: Duration,
}

impl Connection {
    /// Connects and sends `hello`. `heartbeat` is the one that `hello` asks for.
    pub fn open(address: SocketAddr, hello: &[u8], heartbeat: Duration) -> std::io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(WRITE_MAX))?;
        let heard_at = Instant::now();
        let mut connection =
            Self { socket, unread: Vec::new(), at: 0, heard_at, has_asked: false, heartbeat };
        connection.send(hello)?;
        Ok(connection)
    }

    /// Writes bytes as they are. An error leaves the connection unusable.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let began = Instant::now();
        self.socket.write_all(bytes)?;
        // The clock of the heartbeat stops while a write is blocked.
        self.heard_at += began.elapsed();
        Ok(())
    }

    /// The next body, after `within` at most.
    pub fn receive(&mut self, within: Duration) -> Event {
        let deadline = Instant::now() + within;
        loop {
            match self.take() {
                Ok(Some(body)) => return Event::Body(body),
                Ok(None) => {}
                Err(()) => return Event::Broken,
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            if self.socket.set_read_timeout(Some(left)).is_err() {
                return Event::Broken;
            }
            self.unread.drain(..self.at);
            self.at = 0;
            let mut chunk = [0; 16 << 10];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Event::Broken,
                Ok(count) => self.note(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Event::Silence,
                    _ => return Event::Broken,
                },
            }
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        self.heard_at = Instant::now();
        self.has_asked = false;
    }

    /// Takes the next whole body. An error is a length that no message has.
    fn take(&mut self) -> Result<Option<Vec<u8>>, ()> {
        let Some((length, rest)) = self.unread[self.at..].split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > BODY_BYTES_MAX {
            return Err(());
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let body = body.to_vec();
        self.at += 4 + length;
        Ok(Some(body))
    }

    /// Asks the peer for a sign of life when one is due. Returns whether the peer is alive as far as this side knows.
    pub fn is_alive(&mut self) -> bool {
        let silence = self.heard_at.elapsed();
        if silence > 3 * self.heartbeat {
            return false;
        }
        if silence > self.heartbeat && !self.has_asked {
            self.has_asked = true;
            return self.socket.write_all(&crate::support::message::ping(1)).is_ok();
        }
        true
    }
}
