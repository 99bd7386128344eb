//! Both sides over a real TCP connection.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// An authority, with a directory for what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("ours")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn authorities(&self) -> Authorities {
        Authorities::load(&self.path("ca.pem")).unwrap()
    }

    /// An identity for `names` that expires in the year `expires`.
    fn identity_until(&self, names: &[&str], expires: i32) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(expires, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("own.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("own.key"), key.serialize_pem()).unwrap();
        Identity::load(&self.path("own.pem"), &self.path("own.key")).unwrap()
    }

    pub(crate) fn identity(&self, names: &[&str]) -> Identity {
        self.identity_until(names, 4000)
    }
}

/// A server and a client with these settings, before the handshake. The client asks for `localhost`.
async fn pair(server: Option<&Server>, client: Option<&Client>) -> (Socket, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let accepted = Socket::accepted(accepted.unwrap().0, server).unwrap();
    (accepted, Socket::connected(connected.unwrap(), "localhost:1", client).unwrap())
}

/// What each side says of the handshake, and of the end of a connection that failed.
async fn shake_hands(server: &mut Socket, client: &mut Socket) -> [Result<(), String>; 2] {
    async fn of_client(client: &mut Socket) -> std::io::Result<()> {
        client.handshake().await?;
        // A server refuses a certificate after the client has finished.
        client.write_all(b"hello").await?;
        client.read_exact(&mut [0; 2]).await.map(drop)
    }
    async fn of_server(server: &mut Socket) -> std::io::Result<()> {
        server.read_exact(&mut [0; 5]).await?;
        server.write_all(b"ok").await?;
        server.flush().await
    }
    let both = async {
        tokio::join!(
            async {
                let done = of_server(server).await;
                if done.is_err() {
                    let _ = server.shutdown().await;
                    let _ = tokio::time::timeout(Duration::from_secs(1), server.readable()).await;
                }
                done
            },
            of_client(client)
        )
    };
    let (server, client) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    [server, client].map(|done| done.map_err(|error| error.to_string()))
}

fn sides(authority: &Authority, ask: &Ask, own: Option<&Identity>) -> (Server, Client) {
    let server = Server::new(&authority.identity(&["localhost"]), ask).unwrap();
    (server, Client::new(&authority.authorities(), own).unwrap())
}

#[tokio::test]
async fn both_sides_read_what_the_other_wrote() {
    let authority = Authority::new();
    let (server, client) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut back = vec![0; sent.len()];
    let (echoed, ()) = tokio::join!(
        async {
            let mut got = vec![0; sent.len()];
            server.read_exact(&mut got).await.unwrap();
            server.write_all(&got).await.unwrap();
            server.shutdown().await.unwrap();
            got
        },
        async {
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            client.read_exact(&mut back).await.unwrap();
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        }
    );
    assert!(echoed == sent && back == sent);
    assert_eq!(server.peer_names(), None);
    assert_eq!(client.peer_names(), Some(vec!["localhost".to_owned()]));
}

/// Slices of all lengths around the length of a record.
#[tokio::test]
async fn slices_are_written_in_order() {
    use std::io::IoSlice;
    let authority = Authority::new();
    let (server, client) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
    assert_eq!(shake_hands(&mut server, &mut client).await, [Ok(()), Ok(())]);
    let pieces: Vec<Vec<u8>> = [1, 0, 16_383, 16_384, 16_385, 5, 40_000, 3]
        .iter()
        .enumerate()
        .map(|(at, len)| vec![at as u8; *len])
        .collect();
    let expected = pieces.concat();
    let write = async {
        let mut written = 0;
        while written < expected.len() {
            let mut skip = written;
            let slices: Vec<_> = pieces
                .iter()
                .map(|piece| {
                    let from = skip.min(piece.len());
                    skip -= from;
                    IoSlice::new(&piece[from..])
                })
                .collect();
            match client.try_write_vectored(&slices) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    client.ready(false, true).await.map(drop).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        client.flush().await.unwrap();
    };
    let mut got = vec![0; expected.len()];
    let (read, ()) = tokio::join!(server.read_exact(&mut got), write);
    read.unwrap();
    assert!(got == expected);
}

/// Bytes that a reader has no room for stay, and make the socket readable.
#[tokio::test]
async fn plaintext_without_room_is_kept_in_order() {
    let authority = Authority::new();
    let (server, client) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
    assert_eq!(shake_hands(&mut server, &mut client).await, [Ok(()), Ok(())]);
    let sent: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    loop {
        server.readable().await.unwrap();
        let mut some = [0; 333];
        match server.try_read_buf(&mut &mut some[..]) {
            Ok(0) => break,
            Ok(count) => got.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(got == sent);
}

#[tokio::test]
async fn each_failure_of_a_handshake_has_a_reason_at_both_ends() {
    let (ours, theirs) = (Authority::new(), Authority::named("theirs"));
    let impostor = Authority::new();
    let (required, optional) = (Ask::Required(ours.authorities()), Ask::Optional(ours.authorities()));
    let station = ours.identity(&["kiruna.example", "*.example"]);
    for (what, ask, own, trusts, said_by_server, said_by_client) in [
        ("no certificate", &required, None, &ours, "one is needed here", "certificate_required"),
        (
            "a stranger",
            &required,
            Some(theirs.identity(&["kiruna.example"])),
            &ours,
            "not signed by an authority",
            "unknown_ca",
        ),
        (
            "an impostor",
            &required,
            Some(impostor.identity(&["kiruna.example"])),
            &ours,
            "not signed by an authority",
            "decrypt_error",
        ),
        (
            "expired",
            &optional,
            Some(ours.identity_until(&["kiruna.example"], 2001)),
            &ours,
            "certificate is refused: certificate expired",
            "certificate_expired",
        ),
        ("another authority", &optional, None, &theirs, "unknown_ca", "not signed by an authority"),
    ] {
        let server = Server::new(&ours.identity(&["localhost"]), ask).unwrap();
        let client = Client::new(&trusts.authorities(), own.as_ref()).unwrap();
        let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
        let [by_server, by_client] = shake_hands(&mut server, &mut client).await.map(Result::unwrap_err);
        assert!(by_server.contains(said_by_server), "{what}: the server says {by_server:?}");
        assert!(by_client.contains(said_by_client), "{what}: the client says {by_client:?}");
    }
    for own in [None, Some(&station)] {
        let (server, client) = sides(&ours, &optional, own);
        let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
        assert_eq!(shake_hands(&mut server, &mut client).await, [Ok(()), Ok(())]);
        let names = own.map(|_| vec!["kiruna.example".to_owned()]);
        assert_eq!(server.peer_names(), names);
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = Server::new(&authority.identity(&["elsewhere.example"]), &Ask::Nothing).unwrap();
    let client = Client::new(&authority.authorities(), None).unwrap();
    let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
    let [by_server, by_client] = shake_hands(&mut server, &mut client).await.map(Result::unwrap_err);
    assert!(by_server.contains("its name is not the one"), "{by_server}");
    assert!(by_client.contains("is not for localhost: it is for") && by_client.contains("elsewhere.example"));
}

#[tokio::test]
async fn a_client_without_tls_gets_the_reason_in_plain_text() {
    let authority = Authority::new();
    let (server, _) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(Some(&server), None).await;
    client.write_all(&[0, 0, 0, 9]).await.unwrap();
    let error = server.handshake().await.unwrap_err();
    assert_eq!(TlsError::of(&error), Some(&TlsError::NotTls));
    server.write_all(b"why").await.unwrap();
    client.read_exact(&mut [0; 3]).await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let authority = Authority::new();
    let (_, client) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(None, Some(&client)).await;
    server.write_all(&[0, 0, 0, 9, 9]).await.unwrap();
    let error = client.handshake().await.unwrap_err();
    assert_eq!(error.to_string(), "the peer does not speak TLS on this port");
}

/// An error of a write does not hide what the peer has said before.
#[tokio::test]
async fn the_last_words_of_a_peer_are_read_after_a_failed_write() {
    let authority = Authority::new();
    let (server, client) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
    assert_eq!(shake_hands(&mut server, &mut client).await, [Ok(()), Ok(())]);
    server.write_all(b"why").await.unwrap();
    server.shutdown().await.unwrap();
    drop(server);
    // The first write after the end meets a reset, a later one fails.
    let failed = async {
        loop {
            if client.write_all(&[0; 1000]).await.and(client.flush().await).is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), failed).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(60), client.readable());
    waited.await.unwrap().unwrap();
}

/// What the runtime does not know of is read and written directly.
#[tokio::test]
async fn a_connection_can_be_judged_and_answered_at_once() {
    let authority = Authority::new();
    let (server, client) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
    assert_eq!(shake_hands(&mut server, &mut client).await, [Ok(()), Ok(())]);
    client.write_all(b"late").await.unwrap();
    client.flush().await.unwrap();
    server.tcp().readable().await.unwrap();
    let mut got = Vec::with_capacity(64);
    assert_eq!(server.read_now(&mut got).unwrap(), 4);
    assert_eq!(server.read_now(&mut got).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(server.write_now(b"bye").unwrap(), 3);
    client.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!(got, b"late");
}

/// A client must not make the daemon keep a message of any length.
#[tokio::test]
async fn a_handshake_message_that_is_too_long_is_refused() {
    let authority = Authority::new();
    let (server, _) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(Some(&server), None).await;
    // Records of a ClientHello of 60,000 bytes, as far as the daemon reads.
    let first = [&[22, 3, 1, 0x40, 0, 1, 0, 0xEA, 0x60][..], &[0; 0x4000 - 4]].concat();
    let second = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    client.write_all(&first).await.unwrap();
    client.write_all(&second).await.unwrap();
    let error = server.handshake().await.unwrap_err();
    assert_eq!(TlsError::of(&error), Some(&TlsError::TooLong));
}

/// A peer that sends garbage after the handshake gets an alert.
#[tokio::test]
async fn a_damaged_record_ends_the_connection() {
    let authority = Authority::new();
    let (server, client) = sides(&authority, &Ask::Nothing, None);
    let (mut server, mut client) = pair(Some(&server), Some(&client)).await;
    assert_eq!(shake_hands(&mut server, &mut client).await, [Ok(()), Ok(())]);
    client.tcp().writable().await.unwrap();
    client
        .tcp()
        .try_write(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .unwrap();
    let error = server.read(&mut [0; 1]).await.unwrap_err();
    assert!(TlsError::of(&error).is_some(), "{error}");
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert!(error.to_string().contains("alert"), "{error}");
}

#[test]
fn files_are_read_and_their_faults_named() {
    let authority = Authority::new();
    let identity = authority.identity_until(&["localhost"], 2100);
    assert_eq!(identity.expires(), Duration::from_secs(4_102_444_800));
    assert!(authority.authorities().expires() > Some(identity.expires()));
    let said = |certificate: &Path, key: &Path| Identity::load(certificate, key).unwrap_err().to_string();
    let (own, key, ca) = (authority.path("own.pem"), authority.path("own.key"), authority.path("ca.pem"));
    assert!(said(&key, &key).contains("own.key: expected certificates in PEM"));
    assert!(said(&own, &own).contains("own.pem: expected a private key in PEM"));
    assert!(said(&ca, &key).contains("own.key: the key does not belong to the certificate"));
    assert!(said(&own, &authority.path("none")).contains("cannot read"));
    assert!(said(&own, authority.directory.path()).contains("cannot read"));
    let text = format!("{identity:?}");
    assert!(!text.contains("key") && text.contains("expires"), "{text}");
}
