//! The state of TLS on one connection: bytes in, bytes out, no I/O.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf as _, BufMut, BytesMut};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error};

use super::config::{Client, Server};
use super::error::TlsError;
use super::identity::names;

/// Most ciphertext that waits to be decrypted, in bytes. Holds the largest record (16,645 bytes) and the chains of
/// certificates that are in use.
pub(crate) const READ_BYTES: usize = 20 << 10;
/// Most plaintext that is encrypted before it is written, in bytes.
const WRITE_BYTES: usize = 16 << 10;
/// Most plaintext in one record, in bytes.
const RECORD_BYTES: usize = 16 << 10;
/// Room for what encryption adds to a record: header, type and tag, in bytes.
const RECORD_EXCESS_BYTES: usize = 64;
/// The answer to a client in a handshake, in bytes: the daemon's chain of certificates.
const ANSWER_BYTES: usize = 8 << 10;
/// The state of a connection, in bytes.
const STATE_BYTES: usize = 16 << 10;
/// The first byte of a client that speaks TLS: a handshake record.
const HANDSHAKE_RECORD: u8 = 22;

/// Upper bound of the memory of TLS on a connection in bytes: ciphertext that was read, its plaintext, ciphertext to
/// write, and the state.
pub const CONNECTION_BYTES: u64 = (2 * READ_BYTES + WRITE_BYTES + STATE_BYTES) as u64;
/// Upper bound of the memory of TLS on a connection that is in its handshake, in bytes: ciphertext that was read, the
/// answer, and the state.
pub const HANDSHAKE_BYTES: u64 = (READ_BYTES + ANSWER_BYTES + STATE_BYTES) as u64;

/// The state of TLS on one connection.
pub(crate) struct Engine {
    /// The library's state of the connection.
    connection: Connection,
    /// Ciphertext that is not decrypted.
    incoming: Vec<u8>,
    /// Plaintext that its reader had no room for.
    plain: BytesMut,
    /// Ciphertext to write.
    outgoing: BytesMut,
    /// Whether the handshake is complete.
    is_open: bool,
    /// The peer has announced that it sends no more.
    has_peer_closed: bool,
    /// Whether the first byte of a client was looked at, see [`HANDSHAKE_RECORD`].
    has_heard: bool,
    /// Why the connection has failed. Every later call returns this error.
    failed: Option<TlsError>,
}

/// The side of the connection. The two types of the library have no trait in common.
enum Connection {
    /// The side that was connected to.
    Server(Box<UnbufferedServerConnection>),
    /// The side that has connected.
    Client(Box<UnbufferedClientConnection>),
}

impl Connection {
    fn state(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }
}

/// What follows after a step of the library.
enum Step {
    /// The library has more to do.
    Again,
    /// More ciphertext is needed first.
    Blocked,
    /// Application data may be written.
    Open,
}

/// What to write once the connection is open.
enum Output<'a> {
    /// Nothing: the caller reads.
    Nothing,
    /// The first bytes of these slices.
    Data(&'a [IoSlice<'a>]),
    /// The announcement that no more data follows.
    Close,
}

impl Engine {
    pub(crate) fn server(server: &Server) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(Arc::clone(&server.0))?;
        Ok(Self::new(Connection::Server(Box::new(connection))))
    }

    /// A client that connects to the server `name`. Its first message waits to be written.
    pub(crate) fn client(client: &Client, name: ServerName<'static>) -> Result<Self, TlsError> {
        let connection = UnbufferedClientConnection::new(Arc::clone(&client.0), name)?;
        let mut engine = Self::new(Connection::Client(Box::new(connection)));
        engine.advance(&mut [0u8; 0].as_mut_slice(), Output::Nothing)?;
        Ok(engine)
    }

    fn new(connection: Connection) -> Self {
        Self {
            connection,
            incoming: Vec::new(),
            plain: BytesMut::new(),
            outgoing: BytesMut::new(),
            is_open: false,
            has_peer_closed: false,
            has_heard: false,
            failed: None,
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.is_open
    }

    pub(crate) const fn has_peer_closed(&self) -> bool {
        self.has_peer_closed
    }

    pub(crate) const fn failed(&self) -> Option<&TlsError> {
        self.failed.as_ref()
    }

    /// Ciphertext to write. The caller removes what it has written.
    pub(crate) const fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the next read has something to return without more ciphertext: plaintext, the end, or an error.
    pub(crate) fn has_news(&self) -> bool {
        self.has_plain() || self.has_peer_closed || self.failed.is_some()
    }

    pub(crate) fn has_plain(&self) -> bool {
        !self.plain.is_empty()
    }

    /// The buffer for more ciphertext, with room. Call [`Engine::read`] after each read.
    pub(crate) fn incoming(&mut self) -> &mut Vec<u8> {
        self.incoming.reserve_exact(READ_BYTES - self.incoming.len());
        &mut self.incoming
    }

    /// Decrypts what has come, and moves plaintext into the free room of `into`. Returns the number of bytes.
    ///
    /// # Errors
    /// [`TlsError`] when the handshake fails or a record is wrong. An alert for the peer waits to be written then.
    pub(crate) fn read(&mut self, into: &mut impl BufMut) -> Result<usize, TlsError> {
        let kept = self.plain.len().min(room(into));
        into.put_slice(&self.plain[..kept]);
        self.plain.advance(kept);
        if !self.plain.is_empty() {
            return Ok(kept);
        }
        self.plain = BytesMut::new();
        match self.advance(into, Output::Nothing) {
            Ok(count) => Ok(kept + count),
            // What came before the error is returned first. The error follows.
            Err(_) if kept > 0 => Ok(kept),
            Err(error) => Err(error),
        }
    }

    /// Encrypts the first bytes of `data`, and returns their number. [`Engine::outgoing`] must be empty.
    ///
    /// After a failure, and before the handshake is complete, nothing reaches the peer.
    pub(crate) fn write(&mut self, data: &[IoSlice<'_>]) -> Result<usize, TlsError> {
        if !self.is_open || self.failed.is_some() {
            return Ok(0);
        }
        let data_bytes = data.iter().map(|slice| slice.len()).sum::<usize>();
        self.advance(&mut [0u8; 0].as_mut_slice(), Output::Data(data))?;
        Ok(data_bytes.min(WRITE_BYTES))
    }

    /// Announces that no more data follows.
    pub(crate) fn close(&mut self) -> Result<(), TlsError> {
        if self.is_open && self.failed.is_none() {
            self.advance(&mut [0u8; 0].as_mut_slice(), Output::Close)?;
        }
        Ok(())
    }

    /// The DNS names in the certificate of the peer. `None` if it has shown no certificate.
    pub(crate) fn peer_names(&self) -> Option<Vec<String>> {
        let certificate = self.connection.state().peer_certificates()?.first()?;
        Some(names(certificate).unwrap_or_default())
    }

    /// Lets the library take all ciphertext, and gives it `output`.
    fn advance(&mut self, into: &mut impl BufMut, output: Output<'_>) -> Result<usize, TlsError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if let (false, Some(first), Connection::Server(_)) =
            (self.has_heard, self.incoming.first(), &self.connection)
        {
            self.has_heard = true;
            if *first != HANDSHAKE_RECORD {
                return Err(self.fail(TlsError::NotTls));
            }
        }
        let Self { connection, incoming, plain, outgoing, .. } = self;
        let mut sink = Sink { into, plain, outgoing, count: 0, has_peer_closed: &mut self.has_peer_closed };
        let mut taken = 0;
        let mut failure = None;
        loop {
            let unread = &mut incoming[taken..];
            let (discard, step) = match connection {
                Connection::Server(connection) => sink.step(connection.process_tls_records(unread), &output),
                Connection::Client(connection) => sink.step(connection.process_tls_records(unread), &output),
            };
            taken += discard;
            match (step, &failure) {
                (Ok(Step::Again), _) => {}
                (Ok(Step::Open), None) => {
                    self.is_open = true;
                    break;
                }
                (Err(error), None) => failure = Some(error),
                _ => break,
            }
            // The next steps encode the alert.
            if failure.is_some() && !connection.state().wants_write() {
                break;
            }
        }
        let count = sink.count;
        incoming.drain(..taken);
        if incoming.is_empty() {
            *incoming = Vec::new();
        }
        let failure = match failure {
            Some(error) => Some(self.fail(error.into())),
            None if self.incoming.len() >= READ_BYTES => Some(self.fail(TlsError::TooLong)),
            None => None,
        };
        match failure {
            Some(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }

    fn fail(&mut self, error: TlsError) -> TlsError {
        self.failed = Some(error.clone());
        error
    }
}

/// Where the results of the library go.
struct Sink<'a, B> {
    /// Where plaintext goes while it has room.
    into: &'a mut B,
    /// Where the rest of the plaintext goes.
    plain: &'a mut BytesMut,
    /// Where ciphertext goes.
    outgoing: &'a mut BytesMut,
    /// Bytes of plaintext that went into `into`.
    count: usize,
    /// Set when the peer announces that it sends no more.
    has_peer_closed: &'a mut bool,
}

impl<B: BufMut> Sink<'_, B> {
    /// Acts on `status`. Returns how many bytes of ciphertext the library has taken.
    fn step<D>(
        &mut self,
        status: UnbufferedStatus<'_, '_, D>,
        output: &Output<'_>,
    ) -> (usize, Result<Step, Error>) {
        let UnbufferedStatus { mut discard, state } = status;
        let step = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                let mut taken = Ok(Step::Again);
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            self.take(record.payload);
                        }
                        Err(error) => taken = Err(error),
                    }
                }
                taken
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let required = match data.encode(&mut []) {
                    Err(EncodeError::InsufficientSize(error)) => error.required_size,
                    _ => 0,
                };
                self.append(required, |room| data.encode(room).unwrap_or(0));
                Ok(Step::Again)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // The bytes wait in `outgoing`. They are written before later ones.
                data.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::PeerClosed) => {
                *self.has_peer_closed = true;
                Ok(Step::Again)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let written = match output {
                    Output::Nothing => Ok(()),
                    Output::Data(data) => self.encrypt(data, |plain, room| traffic.encrypt(plain, room)),
                    Output::Close => self.encrypt_piece(0, |room| traffic.queue_close_notify(room)),
                };
                written.map(|()| Step::Open).map_err(|error| Error::General(error.to_string()))
            }
            Ok(_) => Ok(Step::Blocked),
            Err(error) => Err(error),
        };
        (discard, step)
    }

    /// Takes the plaintext of a record.
    fn take(&mut self, payload: &[u8]) {
        // Later plaintext must not overtake earlier plaintext.
        let fits = if self.plain.is_empty() { payload.len().min(room(self.into)) } else { 0 };
        self.into.put_slice(&payload[..fits]);
        self.count += fits;
        self.plain.extend_from_slice(&payload[fits..]);
    }

    /// Encrypts the first [`WRITE_BYTES`] of `data`. Short slices share a record.
    fn encrypt(
        &mut self,
        data: &[IoSlice<'_>],
        mut encrypt: impl FnMut(&[u8], &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), EncryptError> {
        let mut left = WRITE_BYTES;
        let mut gathered = Vec::new();
        for slice in data {
            let mut slice = &slice[..slice.len().min(left)];
            left -= slice.len();
            while gathered.is_empty() && slice.len() >= RECORD_BYTES {
                let (record, rest) = slice.split_at(RECORD_BYTES);
                self.encrypt_piece(RECORD_BYTES, |room| encrypt(record, room))?;
                slice = rest;
            }
            while gathered.len() + slice.len() >= RECORD_BYTES {
                let (record, rest) = slice.split_at(RECORD_BYTES - gathered.len());
                gathered.extend_from_slice(record);
                self.encrypt_piece(RECORD_BYTES, |room| encrypt(&gathered, room))?;
                gathered.clear();
                slice = rest;
            }
            if data.len() == 1 {
                return self.encrypt_last(slice, encrypt);
            }
            gathered.extend_from_slice(slice);
        }
        self.encrypt_last(&gathered, encrypt)
    }

    /// Encrypts what is left, which is shorter than a record, if there is anything.
    fn encrypt_last(
        &mut self,
        plain: &[u8],
        mut encrypt: impl FnMut(&[u8], &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), EncryptError> {
        if plain.is_empty() {
            return Ok(());
        }
        self.encrypt_piece(plain.len(), |room| encrypt(plain, room))
    }

    /// Appends one record with `bytes` of plaintext, which `encrypt` puts into the room that it is given.
    fn encrypt_piece(
        &mut self,
        bytes: usize,
        encrypt: impl FnOnce(&mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), EncryptError> {
        let mut result = Ok(());
        self.append(bytes + RECORD_EXCESS_BYTES, |room| {
            encrypt(room).unwrap_or_else(|error| {
                result = Err(error);
                0
            })
        });
        result
    }

    /// Appends to the outgoing bytes what `fill` puts into `bytes` of room.
    fn append(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let before = self.outgoing.len();
        self.outgoing.resize(before + bytes, 0);
        let filled = fill(&mut self.outgoing[before..]);
        self.outgoing.truncate(before + filled);
    }
}

/// The bytes that `into` takes without growing.
fn room(into: &mut impl BufMut) -> usize {
    into.remaining_mut().min(into.chunk_mut().len())
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("is_open", &self.is_open)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
