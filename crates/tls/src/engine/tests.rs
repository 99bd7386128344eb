//! Both sides without a connection, and a server that receives damaged bytes.

use proptest::prelude::*;

use super::*;
use crate::config::{Ask, server_name};
use crate::tests::Authority;

fn sides() -> (Server, Client) {
    let authority = Authority::new();
    let server =
        Server::new(&authority.identity(&["localhost"]), &Ask::Required(authority.authorities())).unwrap();
    let own = authority.identity(&["kiruna.example"]);
    (server, Client::new(&authority.authorities(), Some(&own)).unwrap())
}

fn engines(server: &Server, client: &Client) -> (Engine, Engine) {
    (Engine::server(server).unwrap(), Engine::client(client, server_name("localhost:1").unwrap()).unwrap())
}

/// Hands over `ciphertext` as a socket does. Returns the plaintext.
fn hand_over(engine: &mut Engine, mut ciphertext: &[u8]) -> Result<Vec<u8>, TlsError> {
    let mut plain = Vec::new();
    while !ciphertext.is_empty() {
        let incoming = engine.incoming();
        let room = (incoming.capacity() - incoming.len()).min(ciphertext.len());
        assert!(room > 0, "an engine that has not failed takes more");
        incoming.extend_from_slice(&ciphertext[..room]);
        ciphertext = &ciphertext[room..];
        loop {
            let mut some = [0; 700];
            match engine.read(&mut &mut some[..])? {
                0 if !engine.has_plain() => break,
                count => plain.extend_from_slice(&some[..count]),
            }
        }
        assert!(engine.incoming.len() < READ_BYTES && engine.plain.is_empty());
    }
    Ok(plain)
}

/// The bytes of a whole conversation from the client to the server, in the pieces in which they are sent.
fn conversation(server: &Server, client: &Client, data: &[u8]) -> Vec<Vec<u8>> {
    let (mut server, mut client) = engines(server, client);
    let mut sent = vec![client.outgoing().split().to_vec()];
    hand_over(&mut server, &sent[0]).unwrap();
    hand_over(&mut client, &server.outgoing().split()).unwrap();
    assert!(client.is_open());
    client.write(&[IoSlice::new(data)]).unwrap();
    sent.push(client.outgoing().split().to_vec());
    assert_eq!(hand_over(&mut server, &sent[1]).unwrap(), data);
    assert!(server.is_open());
    assert_eq!(server.peer_names(), Some(vec!["kiruna.example".to_owned()]));
    sent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A server that receives damaged bytes fails or waits. It never panics, and keeps a bounded part.
    #[test]
    fn damaged_bytes_do_no_harm(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..4),
        cut in any::<prop::sample::Index>(),
        twice in any::<prop::sample::Index>(),
    ) {
        let (server, client) = sides();
        let (mut engine, mut peer) = engines(&server, &client);
        let mut bytes = peer.outgoing().split().to_vec();
        let from = twice.index(bytes.len());
        bytes.extend_from_within(from..);
        for (at, bits) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        match hand_over(&mut engine, &bytes) {
            Ok(plain) => prop_assert!(plain.is_empty() && !engine.is_open()),
            Err(error) => {
                prop_assert_eq!(engine.failed(), Some(&error));
                prop_assert_eq!(hand_over(&mut engine, b"more"), Err(error), "it stays failed");
            }
        }
        // The peer may refuse the alert of a failed handshake.
        let _ = hand_over(&mut peer, &engine.outgoing().split());
    }

    #[test]
    fn data_of_any_length_arrives(len in 1..WRITE_BYTES) {
        let (server, client) = sides();
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        conversation(&server, &client, &data);
    }
}
