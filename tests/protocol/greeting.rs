//! HELLO, WELCOME and the first ACKs.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use crate::support::message::{VIA, ZSTD, bye, frame, framed, ping};
use crate::support::{Client, Daemon, EMERGENCY, Hello, NO_ACK, ROUTINE, Received, Server, code};

const WINDOWS: &str = "[ingest]\nroutine_window = \"64 KiB\"\nemergency_window = \"32 KiB\"";

#[test]
fn welcome_carries_the_values_in_force() {
    let mut daemon = Daemon::start("[ingest]\nheartbeat = \"21s\"\nmax_message = \"12 KiB\"");
    let (client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(9));
    assert_eq!(welcome.version, 1);
    assert_eq!(welcome.heartbeat_s, 21, "no wish, so the server's default");
    assert_eq!(welcome.max_message_bytes, 12 * 1024);
    assert_eq!(welcome.epoch, 9);
    assert_eq!(welcome.resume_next, [0, 0]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let off = Duration::from_nanos((now - welcome.server_time_ns).unsigned_abs());
    assert!(off < Duration::from_secs(30), "server_time_ns is off by {off:?}");
    drop(client);
    daemon.stop();
}

#[test]
fn a_session_id_is_never_given_twice() {
    let daemon = Daemon::start("");
    let mut seen = HashSet::new();
    for round in 0..10 {
        let (_client, welcome) = Client::open(daemon.address(), &Hello::new(round % 3));
        assert!(seen.insert(welcome.session_id), "session {} again", welcome.session_id);
    }
}

#[test]
fn one_ack_per_lane_follows_welcome_and_nothing_else() {
    let daemon = Daemon::start(WINDOWS);
    let (mut client, _) = Client::welcomed(daemon.address(), &Hello::new(7));
    let acks = client.expect_first_acks();
    assert_eq!(acks.map(|ack| (ack.durable_next, ack.duplicates)), [(0, 0); 2]);
    assert_eq!(acks[EMERGENCY].credit_limit, 32 * 1024, "the first credit is the empty window");
    assert_eq!(acks[ROUTINE].credit_limit, 64 * 1024, "the first credit is the empty window");
    // Any other message in flight would come before the answer.
    client.send(&ping(5));
    assert_eq!(client.next(), Server::Pong(5));
}

#[test]
fn the_first_acks_precede_answers_to_messages_behind_hello() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.address());
    client.send(&[Hello::new(7).bytes(), ping(77)].concat());
    client.expect_welcome();
    client.expect_first_acks();
    assert_eq!(client.next(), Server::Pong(77));
}

#[test]
fn a_no_ack_client_gets_neither_ack_nor_credit() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::welcomed(daemon.address(), &Hello::new(7).epoch(0).flags(NO_ACK));
    // More frames than both windows allow. Without ACKs a client has no credit to observe.
    for sequence in 0..200 {
        client.frame(ROUTINE, sequence, &[7; 16_000]);
        client.frame(EMERGENCY, sequence, b"x");
    }
    client.send(&ping(5));
    assert_eq!(client.next(), Server::Pong(5), "no ACK after WELCOME and none for frames");
    client.send(&bye([200, 200]));
    assert_eq!(client.next(), Server::Bye([200, 200]), "no ACK before BYE");
    client.expect_end();
    assert_eq!(daemon.stop().archived, 400);
}

#[test]
fn the_highest_version_both_speak_is_chosen() {
    let daemon = Daemon::start("");
    for (min, max) in [(1, 1), (0, 1), (1, 255), (0, 255)] {
        let (_client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(0).versions(min, max));
        assert_eq!(welcome.version, 1, "versions {min} to {max}");
    }
    Client::refused(daemon.address(), &Hello::new(7).versions(2, 9), code::VERSION);
    Client::refused(daemon.address(), &Hello::new(7).versions(0, 0), code::VERSION);
}

#[test]
fn the_requested_heartbeat_is_clamped() {
    let daemon = Daemon::start("[ingest]\nheartbeat = \"15s\"");
    for (wish, in_force) in [(0, 15), (1, 1), (2, 2), (300, 300), (301, 300), (65_535, 300)] {
        let (_client, welcome) = Client::open(daemon.address(), &Hello::new(7).epoch(0).heartbeat(wish));
        assert_eq!(welcome.heartbeat_s, in_force, "wish {wish}");
    }
}

#[test]
fn unknown_flag_bits_and_bytes_behind_the_last_field_are_ignored() {
    let daemon = Daemon::start("");
    let mut hello = Hello::new(7).flags(0xFFFC & !(ZSTD | VIA)).station("Svalbard");
    hello.trailing = vec![0xAA; 500];
    let (mut client, _) = Client::open(daemon.address(), &hello);
    client.deliver(ROUTINE, 0, b"taken");
    let [frame] = &daemon.archived()[..] else { panic!("one frame") };
    assert_eq!((frame.source_id, frame.station.as_str()), (7, "Svalbard"));
}

#[test]
fn a_hello_may_be_as_long_as_4096_bytes() {
    let daemon = Daemon::start("");
    let mut hello = Hello::new(7).station(&"s".repeat(64));
    hello.trailing = vec![1; 4096 - hello.body().len()];
    assert_eq!(hello.body().len(), 4096);
    Client::open(daemon.address(), &hello);
}

#[test]
fn station_and_kind_reach_the_archive() {
    let daemon = Daemon::start("");
    let station = "é".repeat(32);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(u32::MAX).kind(1).station(&station));
    client.deliver(ROUTINE, 0, b"replayed");
    let [frame] = &daemon.archived()[..] else { panic!("one frame") };
    assert_eq!((frame.source_id, frame.kind, &frame.station), (u32::MAX, 1, &station));
}

#[test]
fn a_hello_may_arrive_byte_by_byte_in_time() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.address());
    for byte in Hello::new(7).bytes() {
        client.send(&[byte]);
    }
    client.expect_welcome();
    client.expect_first_acks();
}

#[test]
fn messages_may_be_cut_anywhere() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let mut bytes = Vec::new();
    for sequence in 0..5 {
        bytes.extend(frame(ROUTINE, sequence, &[sequence as u8; 30]));
    }
    for byte in bytes {
        client.send(&[byte]);
    }
    client.wait_durable(ROUTINE, 5);
    drop(client);
    assert_eq!(daemon.stop().archived, 5);
}

#[test]
fn an_ignorable_message_before_hello_is_not_a_hello() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.address());
    client.send(&framed(&[0x85, 1, 2, 3]));
    client.send(&Hello::new(7).bytes());
    // protocol.md says "Before HELLO any other message is protocol" and "types from 0x80 up are skipped". It does not
    // say which rule wins, so the test accepts both. It does not accept silence or a reset.
    match client.next() {
        Server::Welcome(_) => {}
        Server::Error(error) => assert_eq!(error.code, code::PROTOCOL),
        other => panic!("WELCOME or ERROR protocol is due, not {other:?}"),
    }
    assert_ne!(client.receive(Duration::from_millis(1)), Received::Reset);
}

#[test]
fn errors_behind_hello_are_sent_after_the_first_acks() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.address());
    client.send(&[Hello::new(7).bytes(), frame(9, 0, b"offends")].concat());
    client.expect_welcome();
    client.expect_first_acks();
    assert!(matches!(client.next(), Server::Error(error) if error.code == code::BAD_PRIORITY));
    client.expect_end();
}

#[test]
fn a_bye_behind_hello_is_answered_after_the_first_acks() {
    let daemon = Daemon::start("");
    let mut client = Client::connect(daemon.address());
    client.send(&[Hello::new(7).bytes(), bye([0, 0])].concat());
    client.half_close();
    client.expect_welcome();
    client.expect_first_acks();
    assert_eq!(client.expect_bye(), [0, 0]);
}
