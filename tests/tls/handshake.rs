//! The handshake of strangers: it is limited in time and in number, and a mismatch is named.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use tokio::io::AsyncReadExt as _;

use crate::scene::{Scene, block_on, hello, refusal, shaken};
use crate::support::http::{get, get_json, request};
use crate::support::{Client, Daemon, Hello, LIMIT, code};

#[test]
fn a_client_without_tls_is_told_in_plain_text() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config("[feed]\ntls = false"));
    let error = Client::refused(daemon.address(), &Hello::new(1), code::PROTOCOL);
    assert!(error.text.contains("this port speaks TLS"), "{error:?}");
    let answer = get(daemon.http(), "/healthz");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (400, "this port speaks TLS: ask for https:// here\n")
    );
    daemon.stop();
}

#[test]
fn a_client_with_tls_on_a_plain_port_is_named_at_both_ends() {
    let scene = Scene::new();
    let mut daemon = Daemon::start("");
    let tls = scene.client(None);
    let said = refusal(daemon.address(), Some(&tls), &hello(1, "", "")).unwrap();
    assert!(said.contains("does not speak TLS on this port"), "{said}");
    daemon.wait_line("this looks like TLS");
    daemon.stop();
}

/// The time for HELLO counts from the connection, and the handshake is a part of it.
#[test]
fn a_handshake_that_hangs_is_ended_in_time() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config("[ingest]\nhello_timeout = \"300ms\"\n[http]\ntls = false"));
    // One says nothing, one stops within its first record, one shakes hands and says no HELLO.
    let mut silent = TcpStream::connect(daemon.address()).unwrap();
    let mut stopped = TcpStream::connect(daemon.address()).unwrap();
    stopped.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).unwrap();
    for socket in [&mut silent, &mut stopped] {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut said = Vec::new();
        match socket.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    let said = block_on(async {
        let mut socket = shaken(daemon.address(), &scene.client(None)).await;
        let mut said = Vec::new();
        socket.read_to_end(&mut said).await.unwrap();
        said
    });
    assert_eq!((said[4], said[7]), (0x09, code::IDLE as u8), "ERROR idle: {said:?}");
    assert_eq!(refusal(daemon.address(), Some(&scene.client(None)), &hello(1, "", "")), None);
    daemon.stop();
}

/// Connections without a complete handshake take the places of those that have not identified themselves.
#[test]
fn a_crowd_that_never_completes_its_handshakes_keeps_nobody_out() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config("[ingest]\nhello_timeout = \"300s\"\n[http]\ntls = false"));
    let crowd: Vec<_> = (0..300)
        .map(|_| {
            let mut socket = TcpStream::connect(daemon.address()).unwrap();
            socket.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
            socket
        })
        .collect();
    assert_eq!(refusal(daemon.address(), Some(&scene.client(None)), &hello(1, "", "")), None);
    let evicted = &get_json(daemon.http(), "/api/v1/refusals")["counts"]["ingest"]["evicted"];
    assert!(evicted.as_u64().unwrap() >= 40, "{evicted}");
    drop(crowd);
    daemon.stop();
}

/// Bytes that begin like TLS and are none.
#[test]
fn garbage_in_place_of_a_handshake_ends_only_its_connection() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config(""));
    let addresses = [daemon.address(), daemon.feed(), daemon.http()];
    for address in addresses {
        for garbage in
            [&[22; 4096][..], &[22, 3, 3, 0xFF, 0xFF], &[22, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF], &[0x80; 3]]
        {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket.write_all(garbage).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        }
    }
    assert_eq!(refusal(daemon.address(), Some(&scene.client(None)), &hello(1, "", "")), None);
    daemon.stop();
}

/// A plain request is answered; the next one over TLS works as well.
#[test]
fn a_plain_post_changes_nothing() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config(""));
    let answer = request(daemon.http(), "POST", "/api/v1/streams/forget", &[], b"{}");
    assert_eq!(answer.status, 400);
    daemon.stop();
}
