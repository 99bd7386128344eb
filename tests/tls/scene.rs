//! What these tests share: a daemon with certificates, and a source that speaks TLS.

use std::net::SocketAddr;
use std::path::Path;

use client::Refusal;
use frame::{SourceKind, Station, StreamKey};
use tls::{Authorities, ClientArgs, Socket};
use wire::Hello;

use crate::support::pki::{self, Authority, Identity};
use crate::support::wait_until;

/// An authority, and the certificate of a daemon on this host.
pub struct Scene {
    pub authority: Authority,
    pub server: Identity,
}

impl Scene {
    pub fn new() -> Self {
        let authority = Authority::new("ours");
        let server = authority.identity("server", &["localhost", "127.0.0.1"]);
        Self { authority, server }
    }

    /// The configuration of a daemon: TLS with the authority, and `rest`.
    pub fn config(&self, rest: &str) -> String {
        format!("{rest}\n{}ca = {:?}\n", pki::section(&self.server), self.authority.ca())
    }

    /// A client that trusts the authority and shows `identity`.
    pub fn client(&self, identity: Option<&Identity>) -> tls::Client {
        let args = ClientArgs {
            ca: Some(self.authority.ca()),
            certificate: identity.map(|identity| identity.certificate.clone()),
            key: identity.map(|identity| identity.key.clone()),
        };
        args.client().unwrap().unwrap()
    }

    /// The options of a command that trusts the authority.
    pub fn ca(&self) -> [String; 2] {
        ["--ca".to_owned(), self.authority.ca().display().to_string()]
    }
}

/// Runs `work` to its end.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// HELLO of a satellite at a station.
pub fn hello(source_id: u32, station: &str, token: &str) -> Hello {
    let station = Station::new(station).unwrap();
    let stream = StreamKey { source_id, source_kind: SourceKind::LiveUplink, station };
    Hello { token: token.to_owned(), ..Hello::new(stream, 1) }
}

/// What a source is told: nothing when it is let in.
pub fn refusal(address: SocketAddr, tls: Option<&tls::Client>, hello: &Hello) -> Option<String> {
    match block_on(client::open(&at(address), tls, hello)) {
        Ok(_) => None,
        Err(Refusal::Lost(client::End::Lost { trouble, .. })) => Some(trouble),
        Err(Refusal::Final(error)) => Some(error.to_string()),
        Err(Refusal::Lost(client::End::Complete)) => panic!("a connection cannot be complete yet"),
    }
}

/// Waits until `is_met`.
pub fn until(what: &str, is_met: impl Fn() -> bool) {
    wait_until(what, || if is_met() { Ok(()) } else { Err("not yet".to_owned()) });
}

/// The address with the name of this host.
pub fn at(address: SocketAddr) -> String {
    format!("localhost:{}", address.port())
}

/// A connection with a complete handshake.
pub async fn shaken(address: SocketAddr, tls: &tls::Client) -> Socket {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut socket = Socket::connected(tcp, "localhost:1", Some(tls)).unwrap();
    socket.handshake().await.unwrap();
    socket
}

/// A client that trusts only the authority in `ca`.
pub fn trusting(ca: &Path) -> tls::Client {
    tls::Client::new(&Authorities::load(ca).unwrap(), None).unwrap()
}
