//! FRAME and ACK: lanes, sequences, credit, duplicates.

use crate::support::message::{frame, framed, ping};
use crate::support::{Client, Daemon, EMERGENCY, Frame, Hello, ROUTINE, Server, cost};

#[test]
fn every_field_of_a_frame_reaches_the_archive() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(3).station("Kiruna"));
    let mut sent = Frame::new(EMERGENCY, 41, b"SAFE_MODE");
    (sent.flags, sent.ert_ns) = (0b11, -5);
    client.send_frame(&sent);
    client.wait_durable(EMERGENCY, 42);
    let [kept] = &daemon.archived()[..] else { panic!("one frame") };
    assert_eq!((kept.source_id, kept.kind, kept.station.as_str(), kept.epoch), (7, 0, "Kiruna", 3));
    assert_eq!((kept.lane, kept.sequence, kept.ert_ns), (EMERGENCY, 41, -5));
    assert_eq!(kept.flags & 0b11, 0b11);
    assert_eq!(kept.payload, b"SAFE_MODE");
    assert!(kept.received_ns > 0);
}

#[test]
fn sequence_0_is_an_ordinary_sequence() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.frame(ROUTINE, 0, b"zero");
    assert_eq!(client.wait_durable(ROUTINE, 1).durable_next, 1);
    let (_client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 1]);
}

#[test]
fn the_highest_sequence_is_2_to_the_64_less_2() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.frame(ROUTINE, u64::MAX - 1, b"last");
    assert_eq!(client.wait_durable(ROUTINE, u64::MAX).durable_next, u64::MAX);
}

#[test]
fn durable_next_is_one_past_the_highest_and_the_lanes_are_independent() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    // Sequences may have gaps.
    for sequence in [3, 4, 1_000, 70_000] {
        client.frame(ROUTINE, sequence, b"r");
    }
    assert_eq!(client.wait_durable(ROUTINE, 70_001).durable_next, 70_001);
    assert_eq!(client.ack(EMERGENCY).durable_next, 0, "the other lane stays");
    client.frame(EMERGENCY, 8, b"e");
    assert_eq!(client.wait_durable(EMERGENCY, 9).durable_next, 9);
    assert_eq!(client.ack(ROUTINE).durable_next, 70_001, "the other lane stays");
}

#[test]
fn lanes_may_share_one_counter_or_have_separate_counters() {
    let mut daemon = Daemon::start("");
    let (mut shared, _) = Client::open(daemon.address(), &Hello::new(1));
    let (mut apart, _) = Client::open(daemon.address(), &Hello::new(2));
    for sequence in 0..20 {
        let lane = if sequence % 3 == 0 { EMERGENCY } else { ROUTINE };
        shared.frame(lane, sequence, b"s");
        apart.frame(ROUTINE, sequence, b"r");
        apart.frame(EMERGENCY, sequence, b"e");
    }
    assert_eq!(shared.wait_durable(EMERGENCY, 19).durable_next, 19);
    assert_eq!(shared.wait_durable(ROUTINE, 20).durable_next, 20);
    apart.wait_durable(EMERGENCY, 20);
    apart.wait_durable(ROUTINE, 20);
    let archived = daemon.archived();
    for (source, lane, count) in [(1, EMERGENCY, 7), (1, ROUTINE, 13), (2, EMERGENCY, 20), (2, ROUTINE, 20)] {
        let of_lane = archived.iter().filter(|frame| frame.source_id == source && frame.lane == lane);
        let sequences: Vec<_> = of_lane.map(|frame| frame.sequence).collect();
        assert_eq!(sequences.len(), count, "source {source}, lane {lane}");
        assert!(sequences.is_sorted(), "the order within a lane is kept: {sequences:?}");
    }
    drop((shared, apart));
    assert_eq!(daemon.stop().archived, 60);
}

#[test]
fn credit_costs_the_body_or_256_and_is_granted_again_as_frames_leave() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let first = [client.ack(EMERGENCY).credit_limit, client.ack(ROUTINE).credit_limit];
    let mut spent = 0;
    // Bodies of 20, 255, 256, 257 and 5,020 bytes.
    for (sequence, payload) in [0_usize, 235, 236, 237, 5_000].into_iter().enumerate() {
        client.frame(ROUTINE, sequence as u64, &vec![1; payload]);
        spent += cost(20 + payload);
    }
    assert_eq!(spent, 256 + 256 + 256 + 257 + 5_020);
    client.wait_durable(ROUTINE, 5);
    let ack = client.wait_credit(ROUTINE, first[ROUTINE] + spent);
    assert_eq!(
        ack.credit_limit,
        first[ROUTINE] + spent,
        "all have left the queue, so the window is whole again"
    );
    assert_eq!(client.ack(EMERGENCY).credit_limit, first[EMERGENCY], "the lanes have windows of their own");
}

#[test]
fn only_frames_cost_credit() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let first = client.ack(ROUTINE).credit_limit;
    for nonce in 0..50 {
        client.settle(nonce);
        client.send(&framed(&[0xF0; 300]));
    }
    client.deliver(ROUTINE, 0, b"");
    let ack = client.wait_credit(ROUTINE, first + 256);
    assert_eq!(ack.credit_limit, first + 256);
}

#[test]
fn a_window_that_is_used_many_times_never_stalls() {
    let mut daemon = Daemon::start("[ingest]\nroutine_window = \"16 KiB\"\nemergency_window = \"16 KiB\"");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let payload = vec![9; 16 * 1024 - 20];
    for sequence in 0..100 {
        client.frame_within_credit(ROUTINE, sequence, &payload);
        client.frame_within_credit(EMERGENCY, sequence, b"small");
    }
    client.wait_durable(ROUTINE, 100);
    client.wait_durable(EMERGENCY, 100);
    drop(client);
    assert_eq!(daemon.stop().archived, 200);
}

#[test]
fn a_window_is_never_smaller_than_one_maximal_message() {
    let daemon = Daemon::start("");
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    for lane in [EMERGENCY, ROUTINE] {
        assert!(client.ack(lane).credit_limit >= u64::from(welcome.max_message_bytes));
        client.deliver(lane, 0, &vec![3; welcome.max_message_bytes as usize - 20]);
    }
}

#[test]
fn duplicates_are_dropped_counted_and_credited_at_once() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..10 {
        client.frame(ROUTINE, sequence, b"original");
    }
    client.wait_durable(ROUTINE, 10);
    drop(client);

    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(welcome.resume_next, [0, 10]);
    let first = client.ack(ROUTINE);
    assert_eq!((first.durable_next, first.duplicates), (10, 0));
    for sequence in 4..10 {
        client.frame(ROUTINE, sequence, &[0; 1_000]);
    }
    let ack = client.wait_credit(ROUTINE, first.credit_limit + 6 * 1_020);
    assert_eq!(ack.credit_limit, first.credit_limit + 6 * 1_020, "a resend costs, and is credited at once");
    assert_eq!((ack.duplicates, ack.durable_next), (6, 10));
    // The other lane has its own sequences, so sequence 4 is new there.
    client.deliver(EMERGENCY, 4, b"new");
    assert_eq!(client.ack(EMERGENCY).duplicates, 0);
    client.deliver(ROUTINE, 10, b"new");
    assert_eq!(client.ack(ROUTINE).duplicates, 6);
    drop(client);

    // The count belongs to one connection.
    let (client, _) = Client::open(daemon.address(), &Hello::new(7));
    assert_eq!(client.ack(ROUTINE).duplicates, 0);
    drop(client);
    let books = daemon.stop();
    assert_eq!((books.received, books.archived, books.duplicates, books.rejected), (18, 12, 6, 0));
    assert!(daemon.archived().iter().all(|frame| frame.payload != [0; 1_000]), "the originals are kept");
}

#[test]
fn a_skipped_sequence_that_is_sent_later_is_a_duplicate() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 9, b"nine");
    drop(client);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.frame(ROUTINE, 5, b"five");
    client.wait_ack(ROUTINE, "a duplicate", |ack| ack.duplicates == 1);
    drop(client);
    assert_eq!(daemon.stop().archived, 1);
}

#[test]
fn a_longer_header_is_skipped() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for (sequence, extension) in [0_usize, 1, 12, 235].into_iter().enumerate() {
        let mut longer = Frame::new(ROUTINE, sequence as u64, b"payload");
        longer.header_len = 20 + extension as u8;
        longer.extension = vec![0xEE; extension];
        client.send_frame(&longer);
    }
    // The extended header may fill the whole body.
    let mut bare = Frame::new(ROUTINE, 4, b"");
    (bare.header_len, bare.extension) = (30, vec![0xEE; 10]);
    client.send_frame(&bare);
    client.wait_durable(ROUTINE, 5);
    let payloads: Vec<_> = daemon.archived().into_iter().map(|frame| frame.payload).collect();
    assert_eq!(payloads, [&b"payload"[..], b"payload", b"payload", b"payload", b""]);
}

#[test]
fn an_empty_payload_is_a_frame() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"");
    drop(client);
    assert_eq!(daemon.stop().archived, 1);
}

#[test]
fn unknown_frame_flags_are_ignored() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let mut flagged = Frame::new(ROUTINE, 0, b"flagged");
    flagged.flags = 0xFC;
    client.send_frame(&flagged);
    client.wait_durable(ROUTINE, 1);
}

#[test]
fn ignorable_messages_are_skipped() {
    let mut daemon = Daemon::start("");
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7));
    // CATALOG and PROGRESS are known types, but only the server sends them.
    for kind in (0x80..=0xFF_u8).filter(|kind| ![0x8A, 0x94].contains(kind)) {
        client.send(&framed(&[kind]));
        client.send(&framed(&[&[kind][..], &[0x55; 40]].concat()));
    }
    client.send(&framed(&vec![0xA0; welcome.max_message_bytes as usize]));
    client.deliver(ROUTINE, 0, b"behind them");
    drop(client);
    assert_eq!(daemon.stop().archived, 1);
}

#[test]
fn bytes_behind_the_fields_of_a_control_message_are_ignored() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let longer = |message: Vec<u8>| framed(&[&message[4..], &[0xBB; 11]].concat());
    client.send(&longer(ping(99)));
    assert_eq!(client.next(), Server::Pong(99));
    client.send(&longer(crate::support::message::pong(4)));
    client.send(&longer(crate::support::message::bye([0, 0])));
    assert_eq!(client.expect_bye(), [0, 0]);
}

#[test]
fn an_emergency_in_one_write_with_routine_is_archived_first() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    let mut burst: Vec<u8> = (0..20).flat_map(|sequence| frame(ROUTINE, sequence, b"routine")).collect();
    burst.extend(frame(EMERGENCY, 0, b"emergency"));
    burst.extend(frame(EMERGENCY, 1, b"emergency"));
    client.send(&burst);
    client.wait_durable(EMERGENCY, 2);
    client.wait_durable(ROUTINE, 20);
    let lanes: Vec<_> = daemon.archived().into_iter().map(|frame| frame.lane).collect();
    assert_eq!(lanes[..2], [EMERGENCY, EMERGENCY], "the lanes in the order of the archive: {lanes:?}");
}
