//! The connection of a blocking client: TCP, or TLS 1.3 over it. The side of the client is the library's own, apart from the
//! way in which the daemon uses the library.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::pki;

/// A connection that one thread reads and another one writes.
pub struct Stream {
    tcp: TcpStream,
    tls: Option<Arc<Tls>>,
}

struct Tls {
    connection: Mutex<ClientConnection>,
    /// Held while ciphertext is written, so that records stay in order.
    writing: Mutex<()>,
    /// Decrypted bytes that were not read.
    plain: Mutex<Vec<u8>>,
}

impl Stream {
    /// Over TLS if the tests of this binary speak it.
    pub fn new(tcp: TcpStream) -> Self {
        if !pki::is_over_tls() {
            return Self { tcp, tls: None };
        }
        let mut roots = RootCertStore::empty();
        let (authority, _) = pki::shared();
        roots.add(CertificateDer::from_pem_file(authority.ca()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = Mutex::new(ClientConnection::new(Arc::new(config), name).unwrap());
        let tls = Tls { connection, writing: Mutex::default(), plain: Mutex::default() };
        Self { tcp, tls: Some(Arc::new(tls)) }
    }

    /// The TCP connection.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Another handle to the same connection.
    pub fn twin(&self) -> Self {
        Self { tcp: self.tcp.try_clone().unwrap(), tls: self.tls.clone() }
    }

    /// Closes the writing side.
    pub fn half_close(&mut self) -> io::Result<()> {
        if let Some(tls) = self.tls.clone() {
            tls.connection.lock().unwrap().send_close_notify();
            tls.send(&mut self.tcp)?;
        }
        self.tcp.shutdown(Shutdown::Write)
    }
}

impl Tls {
    /// Writes the ciphertext that waits.
    fn send(&self, tcp: &mut TcpStream) -> io::Result<()> {
        self.send_with(self.writing.lock().unwrap(), tcp)
    }

    fn send_with(&self, _writing: MutexGuard<'_, ()>, tcp: &mut TcpStream) -> io::Result<()> {
        let mut ciphertext = Vec::new();
        {
            let mut connection = self.connection.lock().unwrap();
            while connection.wants_write() {
                connection.write_tls(&mut ciphertext)?;
            }
        }
        tcp.write_all(&ciphertext)
    }

    /// Decrypts `ciphertext`.
    fn take(&self, mut ciphertext: &[u8]) -> io::Result<()> {
        let mut connection = self.connection.lock().unwrap();
        while !ciphertext.is_empty() {
            connection.read_tls(&mut ciphertext)?;
            let state = connection.process_new_packets().map_err(io::Error::other)?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            connection.reader().read_exact(&mut plain)?;
            self.plain.lock().unwrap().extend(plain);
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = self.tls.clone() else { return self.tcp.read(into) };
        loop {
            // A writer that waits for the server must not keep this thread from reading.
            if let Ok(writing) = tls.writing.try_lock() {
                tls.send_with(writing, &mut self.tcp)?;
            }
            let mut plain = tls.plain.lock().unwrap();
            if !plain.is_empty() {
                let count = plain.len().min(into.len());
                into[..count].copy_from_slice(&plain[..count]);
                plain.drain(..count);
                return Ok(count);
            }
            drop(plain);
            let mut ciphertext = [0; 16 * 1024];
            match self.tcp.read(&mut ciphertext)? {
                0 => return Ok(0),
                count => tls.take(&ciphertext[..count])?,
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = self.tls.clone() else { return self.tcp.write(bytes) };
        tls.shake_hands(&mut self.tcp)?;
        let count = tls.connection.lock().unwrap().writer().write(bytes)?;
        tls.send(&mut self.tcp)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    /// Completes the handshake before the first write.
    fn shake_hands(&self, tcp: &mut TcpStream) -> io::Result<()> {
        while self.connection.lock().unwrap().is_handshaking() {
            self.send(tcp)?;
            if !self.connection.lock().unwrap().is_handshaking() {
                break;
            }
            let mut ciphertext = [0; 16 * 1024];
            match tcp.read(&mut ciphertext)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.take(&ciphertext[..count])?,
            }
        }
        self.send(tcp)
    }
}
