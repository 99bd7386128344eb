//! A TCP connection that may be encrypted.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::config::{Client, Server, server_name};
use super::engine::Engine;
use super::error::TlsError;

/// A TCP connection that may be encrypted. One task reads and writes it.
///
/// With TLS, the first reads do the handshake, and a failed handshake is an error of a read. What a write has accepted
/// may wait in the socket: every wait for readiness, and a flush, writes it.
#[derive(Debug)]
pub struct Socket {
    /// The TCP connection.
    tcp: TcpStream,
    /// The state of TLS; `None` for plain text.
    engine: Option<Box<Engine>>,
    /// Why nothing can be written any more. What the peer has sent before can still be read.
    broken: Option<io::ErrorKind>,
    /// Bytes have come since the last [`Socket::take_heard`].
    has_heard: bool,
}

/// Reads of the connection by one [`Socket::read_now`], which has no caller to come back.
const READS_NOW_MAX: usize = 32;

/// How to use the TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// As the runtime reports it ready.
    Ready,
    /// Directly: the runtime may not know yet that it is ready.
    Now,
}

impl Access {
    /// Reads once into the free room of `into`.
    fn receive(self, tcp: &TcpStream, into: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Ready => receive(tcp, into),
            Self::Now => receive_now(tcp, into),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self::new(tcp, None)
    }
}

impl Socket {
    /// A connection that was accepted, with TLS if `server` is given.
    ///
    /// # Errors
    /// When the random generator of the system fails.
    pub fn accepted(tcp: TcpStream, server: Option<&Server>) -> io::Result<Self> {
        let engine = server.map(Engine::server).transpose()?.map(Box::new);
        Ok(Self::new(tcp, engine))
    }

    /// A connection to `address`, which is `host:port`, with TLS if `client` is given.
    ///
    /// # Errors
    /// When the host is neither a name nor an IP address.
    pub fn connected(tcp: TcpStream, address: &str, client: Option<&Client>) -> io::Result<Self> {
        let Some(client) = client else { return Ok(tcp.into()) };
        let engine = Engine::client(client, server_name(address)?)?;
        Ok(Self::new(tcp, Some(Box::new(engine))))
    }

    const fn new(tcp: TcpStream, engine: Option<Box<Engine>>) -> Self {
        Self { tcp, engine, broken: None, has_heard: false }
    }

    /// The TCP connection, for its options and addresses.
    #[must_use]
    pub const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.engine.is_some()
    }

    /// The DNS names in the certificate of the peer, in small letters, once something was read. `None` if it has shown
    /// no certificate.
    #[must_use]
    pub fn peer_names(&self) -> Option<Vec<String>> {
        self.engine.as_ref()?.peer_names()
    }

    /// Completes the handshake. A caller that reads does not need it.
    ///
    /// # Errors
    /// When the handshake fails. Cancel safe.
    pub async fn handshake(&mut self) -> io::Result<()> {
        while self.engine.as_ref().is_some_and(|engine| !engine.is_open()) {
            self.readable().await?;
            match self.try_read_buf(&mut [0u8; 0].as_mut_slice()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(_) if self.is_open() => {}
                Ok(_) => return Err(TlsError::Closed.into()),
            }
        }
        Ok(())
    }

    /// Whether data can be written: the handshake, if there is one, is complete.
    fn is_open(&self) -> bool {
        self.engine.as_ref().is_none_or(|engine| engine.is_open())
    }

    /// Waits until the connection is readable. Cancel safe.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.ready(true, false).await.map(drop)
    }

    /// Waits until the connection is readable, if `reads`, or writable, if `writes`. Returns true when it is readable.
    /// Cancel safe.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn ready(&mut self, reads: bool, writes: bool) -> io::Result<bool> {
        poll_fn(|cx| self.poll_ready(cx, reads, writes)).await
    }

    /// The poll of [`Socket::ready`].
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>, reads: bool, writes: bool) -> Poll<io::Result<bool>> {
        // An error of a write shows at the next write. The reason of the peer may still wait to be read.
        let flushed = self.poll_outgoing(cx);
        // The handshake is complete only after the peer has sent its part.
        if reads || !self.is_open() {
            if self.engine.as_ref().is_some_and(|engine| engine.has_news()) {
                return Poll::Ready(Ok(true));
            }
            if let Poll::Ready(ready) = self.tcp.poll_read_ready(cx) {
                return Poll::Ready(ready.map(|()| true));
            }
        }
        if writes
            && flushed.is_ready()
            && self.is_open()
            && let Poll::Ready(ready) = self.tcp.poll_write_ready(cx)
        {
            return Poll::Ready(ready.map(|()| false));
        }
        Poll::Pending
    }

    /// Reads once into the free room of `into`, and returns the number of bytes; 0 at the end.
    ///
    /// A connection that the peer closes without saying so in TLS ends in the same way: the protocols above have a
    /// message for an orderly end. One call reads the TCP connection at most once: a peer that sends records without
    /// content must not keep the task.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read, [`TlsError`] when the handshake fails or a record is wrong.
    pub fn try_read_buf(&mut self, into: &mut impl BufMut) -> io::Result<usize> {
        self.read(into, Access::Ready)
    }

    /// [`Socket::try_read_buf`], also when the runtime does not know that there is input.
    ///
    /// # Errors
    /// See [`Socket::try_read_buf`].
    pub fn read_now(&mut self, into: &mut impl BufMut) -> io::Result<usize> {
        self.read(into, Access::Now)
    }

    /// Writes as many bytes as the connection takes, and returns their number.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    /// [`Socket::try_write`] for several slices.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none.
    pub fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.engine.is_some() {
            self.write_tls(slices, Access::Ready)
        } else {
            self.tcp.try_write_vectored(slices)
        }
    }

    /// Writes as many bytes as the connection takes at once, also when the runtime does not know that it takes any.
    /// Returns their number.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none.
    pub fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.engine.is_some() {
            self.write_tls(&[IoSlice::new(bytes)], Access::Now)
        } else {
            Ok(send(&self.tcp, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
        }
    }

    /// Whether a read has got bytes since the last call of this function. A part of a TLS record counts, although
    /// nothing can be read of it: a peer on a slow connection is not silent.
    pub const fn take_heard(&mut self) -> bool {
        std::mem::replace(&mut self.has_heard, false)
    }

    /// Reads bytes of the TCP connection as they are, for a caller that discards them. Cancel safe.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn read_raw(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(into).await
    }

    fn read(&mut self, into: &mut impl BufMut, access: Access) -> io::Result<usize> {
        if self.engine.is_some() {
            return self.read_tls(into, access);
        }
        let count = access.receive(&self.tcp, into)?;
        self.has_heard |= count > 0;
        Ok(count)
    }

    /// Reads through TLS. Reads the TCP connection only if the plaintext that is there does not suffice: once, or with
    /// [`Access::Now`] up to [`READS_NOW_MAX`] times.
    fn read_tls(&mut self, into: &mut impl BufMut, access: Access) -> io::Result<usize> {
        let Self { tcp, engine: Some(engine), broken, has_heard } = self else { return Ok(0) };
        let mut reads_left = if access == Access::Now { READS_NOW_MAX } else { 1 };
        loop {
            let read = engine.read(into);
            // A failed handshake sends an alert too. An error of a write shows at the next write.
            let _ = send_outgoing(tcp, engine, broken, access);
            match read {
                Err(TlsError::NotTls) => {
                    // The reason reaches such a peer only in plain text.
                    self.engine = None;
                    return Err(TlsError::NotTls.into());
                }
                Err(error) => return Err(error.into()),
                Ok(0) if !engine.has_plain() && !engine.has_peer_closed() => {}
                Ok(count) => return Ok(count),
            }
            if reads_left == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            reads_left -= 1;
            let was_open = engine.is_open();
            let count = access.receive(tcp, engine.incoming())?;
            *has_heard |= count > 0;
            if count == 0 {
                return if was_open { Ok(0) } else { Err(TlsError::Closed.into()) };
            }
        }
    }

    /// Encrypts and writes. What is encrypted counts as written: it waits in the engine if the connection does not take
    /// it.
    fn write_tls(&mut self, slices: &[IoSlice<'_>], access: Access) -> io::Result<usize> {
        let Self { tcp, engine: Some(engine), broken, .. } = self else { return Ok(0) };
        send_outgoing(tcp, engine, broken, access)?;
        if engine.failed().is_some() {
            // The peer cannot read more than the alert.
            return Ok(slices.iter().map(|slice| slice.len()).sum());
        }
        if engine.has_outgoing() || !engine.is_open() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = engine.write(slices)?;
        match send_outgoing(tcp, engine, broken, access) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    /// Writes what waits. Registers the task if the connection does not take everything.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, engine: Some(engine), broken, .. } = self else { return Poll::Ready(Ok(())) };
        while engine.has_outgoing() {
            ready!(tcp.poll_write_ready(cx))?;
            match send_outgoing(tcp, engine, broken, Access::Ready) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => sent?,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes what waits. `WouldBlock` when the connection does not take everything. After another error, nothing is
/// written any more.
fn send_outgoing(
    tcp: &TcpStream,
    engine: &mut Engine,
    broken: &mut Option<io::ErrorKind>,
    access: Access,
) -> io::Result<()> {
    if let Some(kind) = *broken {
        engine.outgoing().clear();
        return Err(kind.into());
    }
    while engine.has_outgoing() {
        let outgoing = engine.outgoing();
        let sent = match access {
            Access::Ready => tcp.try_write(outgoing),
            Access::Now => {
                send(tcp, outgoing, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map_err(io::Error::from)
            }
        };
        match sent {
            Ok(count) => outgoing.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => {
                *broken = Some(error.kind());
                outgoing.clear();
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Reads once into the free room of `into`.
///
/// A read of fewer bytes has emptied the connection. The function then tells the runtime that it is not readable.
/// Otherwise the next read would be a system call that finds nothing.
fn receive(tcp: &TcpStream, into: &mut impl BufMut) -> io::Result<usize> {
    let room = into.remaining_mut().min(into.chunk_mut().len());
    let mut read = Err(io::ErrorKind::WouldBlock.into());
    // `read` holds the result for the caller. The closure returns `WouldBlock` only to clear the readiness.
    let _ = tcp.try_io(Interest::READABLE, || {
        read = tcp.try_read_buf(into);
        match read {
            Ok(count) if 0 < count && count < room => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            _ => Ok(()),
        }
    });
    read
}

/// Reads once into the free room of `into`, also when the runtime does not know that there is input.
fn receive_now(tcp: &TcpStream, into: &mut impl BufMut) -> io::Result<usize> {
    /// Bytes of one read.
    const BYTES: usize = 2 << 10;
    let room = into.remaining_mut().min(into.chunk_mut().len()).min(BYTES);
    let mut bytes = [0; BYTES];
    let (count, _) = recv(tcp, &mut bytes[..room], RecvFlags::DONTWAIT)?;
    into.put_slice(&bytes[..count]);
    Ok(count)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.engine.is_none() {
            return Pin::new(&mut self.tcp).poll_read(cx, into);
        }
        loop {
            match self.try_read_buf(&mut into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_ready(cx, true, false))?;
                }
                read => return Poll::Ready(read.map(|count| into.advance(count))),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.engine.is_none() {
            return Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        }
        loop {
            // The answer of the peer may have to come first.
            if !self.is_open() && self.engine.as_ref().is_some_and(|engine| engine.failed().is_none()) {
                ready!(self.poll_handshake(cx))?;
            }
            match self.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_ready(cx, false, true))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_outgoing(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outgoing(cx))?;
        if let Some(engine) = &mut self.engine {
            engine.close()?;
            ready!(self.poll_outgoing(cx))?;
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Socket {
    /// The poll of [`Socket::handshake`].
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut handshake = std::pin::pin!(self.handshake());
        handshake.as_mut().poll(cx)
    }
}
