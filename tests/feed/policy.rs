//! Complete and timely subscriptions: what happens to a subscriber that falls behind.

use std::net::SocketAddr;

use feed::READERS_MAX;

use crate::support::{Archived, Client, Daemon, Feed, Hello, LIMIT, ROUTINE, Subscribe, Subscriber, reason};

/// A short tail, so that a stalled subscriber soon falls out of it.
const SHORT_TAIL: &str = "[pipeline]\nbroadcast_capacity = 4";
/// Together the frames are far larger than all buffers on the way to a subscriber.
const FRAMES: u64 = 3_000;
const PAYLOAD_BYTES: usize = 16_000;

/// Sends all frames. Returns when they are durable.
fn flood(ingest: SocketAddr) {
    let (mut client, _) = Client::open(ingest, &Hello::new(7));
    for sequence in 0..FRAMES {
        client.frame_within_credit(ROUTINE, sequence, &[sequence as u8; PAYLOAD_BYTES]);
    }
    client.wait_durable(ROUTINE, FRAMES);
}

/// Asserts that a frame of the flood has the sent content.
fn assert_sound(frame: &Archived) {
    assert_eq!(frame.offset, frame.sequence, "one source, so one order");
    assert!(frame.payload == [frame.sequence as u8; PAYLOAD_BYTES], "payload of {}", frame.offset);
}

#[test]
fn complete_skips_nothing_at_any_distance_behind() {
    let daemon = Daemon::start(SHORT_TAIL);
    // The subscriber reads nothing until all frames are durable.
    let (mut stalled, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    flood(daemon.address());
    for offset in 0..FRAMES {
        let frame = stalled.expect_frame();
        assert_eq!(frame.offset, offset);
        assert_sound(&frame);
    }
    stalled.settle(1);
}

#[test]
fn timely_skips_to_the_newest_and_reports_the_gap() {
    let daemon = Daemon::start(SHORT_TAIL);
    let (mut stalled, _) = Subscriber::open(daemon.feed(), &Subscribe::live().timely());
    stalled.settle(1);
    flood(daemon.address());
    let (mut delivered, mut skipped) = (0, 0);
    while delivered + skipped < FRAMES {
        match stalled.next_of_the_log() {
            Feed::Deliver(frame) => {
                assert_sound(&frame);
                delivered += 1;
            }
            Feed::Gap { reason, from, to } => {
                assert_eq!(reason, reason::SKIPPED);
                skipped += to - from;
            }
            other => panic!("a frame or a GAP is due, not {other:?}"),
        }
    }
    // The subscriber asserts that the ranges meet.
    assert_eq!(delivered + skipped, FRAMES);
    assert!(skipped > FRAMES / 4, "{skipped} were skipped, {delivered} delivered");
    // After the gap the subscriber is live.
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).epoch(2));
    client.deliver(ROUTINE, 0, b"newest");
    assert_eq!(stalled.expect_frame().payload, b"newest");
}

#[test]
fn timely_that_keeps_up_skips_nothing() {
    let daemon = Daemon::start("");
    let (mut reader, _) = Subscriber::open(daemon.feed(), &Subscribe::live().timely());
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..300 {
        client.deliver(ROUTINE, sequence, b"r");
        assert_eq!(reader.expect_frame().offset, sequence);
    }
}

#[test]
fn timely_gets_a_frame_larger_than_its_lag_limit() {
    // A subscriber is late when a quarter of the tail waits for it: 64 KiB.
    let daemon = Daemon::start("[ingest]\nmax_message = \"128 KiB\"\n[pipeline]\nbroadcast_capacity = 1");
    let (mut reader, _) = Subscriber::open(daemon.feed(), &Subscribe::live().timely());
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..3 {
        client.deliver(ROUTINE, sequence, &[sequence as u8; 100_000]);
        assert_eq!(reader.expect_frame().offset, sequence);
    }
}

#[test]
fn timely_gets_the_requested_history() {
    let daemon = Daemon::start(SHORT_TAIL);
    flood(daemon.address());
    let (mut reader, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest().timely());
    let started = std::time::Instant::now();
    for offset in 0..FRAMES {
        assert_eq!(reader.expect_frame().offset, offset);
        assert!(started.elapsed() < LIMIT);
    }
}

#[test]
fn stalled_subscribers_do_not_keep_another_from_the_log() {
    let daemon = Daemon::start(SHORT_TAIL);
    flood(daemon.address());
    // More than may read the log at the same time. Each takes one frame, then nothing.
    let stalled: Vec<_> = (0..2 * READERS_MAX)
        .map(|_| {
            let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
            subscriber.expect_frame();
            subscriber
        })
        .collect();
    let (mut prompt, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    (0..FRAMES).for_each(|offset| assert_eq!(prompt.expect_frame().offset, offset));
    drop(stalled);
}
