//! ZSTD: messages that a client compresses together.

use crate::support::message::{NO_ACK, ZSTD, bye, frame, framed, ping};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, Server, code, wait_until};

/// ZSTD with these raw bytes, with its length prefix.
fn packed(raw: &[u8]) -> Vec<u8> {
    claiming(raw.len(), raw)
}

/// ZSTD that claims another size than it has.
fn claiming(raw_len: usize, raw: &[u8]) -> Vec<u8> {
    let data = zstd::bulk::compress(raw, 3).unwrap();
    framed(&[&[0x0A, 0, 0, 0][..], &(raw_len as u32).to_be_bytes(), &data].concat())
}

fn frames(lane: usize, sequences: std::ops::Range<u64>) -> Vec<u8> {
    sequences.flat_map(|sequence| frame(lane, sequence, payload(sequence).as_bytes())).collect()
}

fn payload(sequence: u64) -> String {
    format!("payload of the frame {sequence}")
}

fn granted(daemon: &Daemon, source_id: u32) -> Client {
    let (client, welcome) = Client::open(daemon.address(), &Hello::new(source_id).flags(ZSTD));
    assert_eq!(welcome.flags, Some(1));
    client
}

#[test]
fn zstd_is_granted_to_a_client_that_asks_and_has_credit() {
    let daemon = Daemon::start("");
    let flags = |hello: &Hello| Client::welcomed(daemon.address(), hello).1.flags;
    assert_eq!(flags(&Hello::new(1)), None, "WELCOME has 48 bytes");
    assert_eq!(flags(&Hello::new(2).flags(ZSTD)), Some(1));
    assert_eq!(
        flags(&Hello::new(3).epoch(0).flags(ZSTD | NO_ACK)),
        Some(0),
        "nothing would bound its frames"
    );
}

#[test]
fn frames_in_a_zstd_are_frames_like_others_and_keep_their_order() {
    let mut daemon = Daemon::start("");
    let mut client = granted(&daemon, 7);
    let raw = [frames(ROUTINE, 1..40), frames(EMERGENCY, 0..2), ping(6), frames(ROUTINE, 40..60)].concat();
    let again = [frames(ROUTINE, 61..90), ping(7)].concat();
    let parts = [frames(ROUTINE, 0..1), packed(&raw), packed(b""), frames(ROUTINE, 60..61), packed(&again)];
    // In small pieces, so that each boundary lies somewhere in a read.
    for piece in parts.concat().chunks(11) {
        client.send(piece);
    }
    client.wait_durable(EMERGENCY, 2);
    client.wait_durable(ROUTINE, 90);
    let archived = daemon.archived();
    for (lane, count) in [(ROUTINE, 90), (EMERGENCY, 2)] {
        let lane: Vec<_> = archived.iter().filter(|frame| frame.lane == lane).collect();
        let sequences: Vec<_> = lane.iter().map(|frame| frame.sequence).collect();
        assert_eq!(sequences, (0..count).collect::<Vec<_>>());
        assert!(lane.iter().all(|frame| frame.payload == payload(frame.sequence).as_bytes()));
    }
    client.bye([2, 90]);
    let books = daemon.stop();
    books.assert_balanced();
    assert_eq!(books.archived, 92);
}

#[test]
fn the_newest_ping_in_a_zstd_is_answered() {
    let daemon = Daemon::start("");
    let mut client = granted(&daemon, 7);
    client.send(&packed(&[ping(1), ping(2)].concat()));
    assert_eq!(client.next(), Server::Pong(2));
}

#[test]
fn a_resend_in_a_zstd_is_a_duplicate() {
    let daemon = Daemon::start("");
    let mut client = granted(&daemon, 7);
    client.send(&packed(&frames(ROUTINE, 0..10)));
    client.wait_durable(ROUTINE, 10);
    // Another connection of the same epoch may send them again.
    let mut client = granted(&daemon, 7);
    client.send(&packed(&frames(ROUTINE, 5..15)));
    assert_eq!(client.wait_durable(ROUTINE, 15).duplicates, 5);
}

#[test]
fn what_is_wrong_with_a_zstd_ends_the_connection_and_the_frames_before_it_are_kept() {
    let mut daemon = Daemon::start("[ingest]\nmax_message = \"12 KiB\"");
    let whole = frames(ROUTINE, 1..3);
    let mut cut = packed(&whole);
    cut.truncate(cut.len() - 1);
    let length = cut.len() as u32 - 4;
    cut[..4].copy_from_slice(&length.to_be_bytes());
    let cases = [
        ("above max_message", claiming(12 * 1024 + 1, &[0; 12 * 1024 + 1]), code::TOO_LARGE),
        ("a bomb that claims little", claiming(100, &[0; 10 << 20]), code::PROTOCOL),
        ("less than it claims", claiming(whole.len() + 1, &whole), code::PROTOCOL),
        ("cut off", cut, code::PROTOCOL),
        ("no zstd", framed(b"\x0A\0\0\0\0\0\0\x05hello"), code::PROTOCOL),
        ("too short", framed(b"\x0A\0\0\0\0"), code::PROTOCOL),
        ("ends inside a message", packed(&whole[..whole.len() - 1]), code::PROTOCOL),
        ("an empty message", packed(&framed(b"")), code::PROTOCOL),
        ("a BYE", packed(&bye([0, 1])), code::PROTOCOL),
        ("a ZSTD", packed(&packed(&whole)), code::PROTOCOL),
        ("an unknown type", packed(&framed(&[0x95])), code::PROTOCOL),
        ("more PINGs than credit would allow", packed(&ping(1).repeat(65)), code::PROTOCOL),
        (
            "a sequence twice",
            packed(&[frames(ROUTINE, 1..2), frames(ROUTINE, 1..2)].concat()),
            code::SEQUENCE_REGRESSION,
        ),
    ];
    for (at, (what, bytes, code)) in (1..).zip(cases) {
        let mut client = granted(&daemon, at);
        client.frame(ROUTINE, 0, b"before");
        client.send(&bytes);
        let error = client.expect_error(code);
        assert!(!error.text.is_empty(), "{what}");
        wait_until("the frame before it", || {
            let is_kept = daemon.archived().iter().any(|frame| frame.source_id == at);
            is_kept.then_some(()).ok_or_else(|| format!("{what}: it is not in the archive"))
        });
    }
    assert_eq!(daemon.stop().archived, 13 + 2, "a frame before each, and those in a ZSTD before the mistake");
}

#[test]
fn frames_in_a_zstd_beyond_the_credit_are_refused() {
    let daemon = Daemon::start("[ingest]\nroutine_window = \"64 KiB\"\nmax_message = \"64 KiB\"");
    let mut client = granted(&daemon, 7);
    // 300 frames of 256 each are more than the window, in a few bytes.
    client.send(&packed(&(0..300).flat_map(|sequence| frame(ROUTINE, sequence, b"")).collect::<Vec<_>>()));
    client.expect_error(code::FLOW_CONTROL);
}

#[test]
fn without_the_grant_a_zstd_is_an_unexpected_message() {
    let daemon = Daemon::start("");
    for hello in [Hello::new(7), Hello::new(8).epoch(0).flags(ZSTD | NO_ACK)] {
        let (mut client, _) = Client::welcomed(daemon.address(), &hello);
        client.send(&packed(&frames(ROUTINE, 0..1)));
        let error = client.expect_error(code::PROTOCOL);
        assert!(error.text.contains("unexpected ZSTD (0x0a)"), "{}", error.text);
    }
}
