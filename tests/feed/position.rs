//! Where a subscription begins.

use crate::scene::{durable, fill, send_durable};
use crate::support::{
    Client, Daemon, EMERGENCY, HeldDaemon, Hello, ROUTINE, Subscribe, Subscriber, code, reason,
};

#[test]
fn live_begins_with_the_next_durable_frame() {
    let daemon = Daemon::start("");
    let mut client = durable(daemon.address(), 7, 4);
    let (mut live, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::live());
    assert_eq!((subscribed.start_offset, subscribed.head_offset), (4, 4));
    live.settle(1);
    send_durable(&mut client, 4, 2);
    let offsets: Vec<_> = live.expect_frames(2).iter().map(|frame| frame.offset).collect();
    assert_eq!(offsets, [4, 5]);
}

#[test]
fn an_offset_begins_there_and_runs_into_live() {
    let daemon = Daemon::start("");
    let mut client = durable(daemon.address(), 7, 10);
    for start in [0, 3, 9, 10] {
        let (mut subscriber, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::offset(start));
        assert_eq!((subscribed.start_offset, subscribed.head_offset), (start, 10));
        let frames = subscriber.expect_frames(10 - start as usize);
        assert!(frames.iter().map(|frame| frame.offset).eq(start..10));
        subscriber.settle(1);
    }
    let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::offset(7));
    send_durable(&mut client, 10, 5);
    assert_eq!(subscriber.expect_frames(8), daemon.archived()[7..]);
}

#[test]
fn earliest_begins_with_the_oldest_frame() {
    let daemon = Daemon::start("");
    durable(daemon.address(), 7, 6);
    let (mut subscriber, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    assert_eq!(subscribed.start_offset, 0);
    assert_eq!(subscriber.expect_frames(6), daemon.archived());
}

#[test]
fn an_offset_above_the_head_is_protocol_with_the_head_as_detail() {
    let daemon = Daemon::start("");
    assert_eq!(Subscriber::refused(daemon.feed(), &Subscribe::offset(1), code::PROTOCOL).detail, 0);
    durable(daemon.address(), 7, 4);
    Subscriber::open(daemon.feed(), &Subscribe::offset(4));
    for offset in [5, u64::MAX] {
        let error = Subscriber::refused(daemon.feed(), &Subscribe::offset(offset), code::PROTOCOL);
        assert_eq!(error.detail, 4, "{error:?}");
        assert!(error.text.contains(&offset.to_string()), "it names the offset: {error:?}");
    }
}

#[test]
fn the_offset_of_another_log_is_protocol() {
    let daemon = Daemon::start("");
    durable(daemon.address(), 7, 4);
    let (_, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::live());
    Subscriber::open(daemon.feed(), &Subscribe::offset(2).log(subscribed.log_id));
    let other = subscribed.log_id ^ 1;
    Subscriber::refused(daemon.feed(), &Subscribe::offset(2).log(other), code::PROTOCOL);
    Subscriber::refused(daemon.feed(), &Subscribe::offset(99).log(other), code::PROTOCOL);
    // A log id is valid only together with an offset.
    for subscribe in [Subscribe::live(), Subscribe::earliest(), Subscribe::received(0)] {
        Subscriber::open(daemon.feed(), &subscribe.log(other));
    }
}

#[test]
fn a_time_begins_with_the_lowest_offset_received_then_or_later() {
    let daemon = Daemon::start("");
    let mut client = durable(daemon.address(), 7, 3);
    // Send the frames one by one, so that no two have the same time.
    for sequence in 3..8 {
        send_durable(&mut client, sequence, 1);
    }
    let archived = daemon.archived();
    for frame in &archived[3..] {
        for (from_ns, expected) in
            [(frame.received_ns, frame.offset), (frame.received_ns + 1, frame.offset + 1)]
        {
            let (mut subscriber, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::received(from_ns));
            assert_eq!(subscribed.start_offset, expected);
            let rest = &archived[expected as usize..];
            assert_eq!(subscriber.expect_frames(rest.len()), rest);
        }
    }
    for (from_ns, expected) in [(0, 0), (archived[0].received_ns, 0), (i64::MAX, 8), (-1, 8)] {
        // -1 is 2^64-1 on the wire, a time that never comes.
        let (_, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::received(from_ns));
        assert_eq!(subscribed.start_offset, expected, "from {from_ns}");
    }
}

#[test]
fn after_a_start_by_time_later_offsets_follow_even_if_received_earlier() {
    let mut daemon = HeldDaemon::start("[ingest]\nroutine_window = \"64 KiB\"");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    // The emergency is sent last and overtakes the queued routine frames.
    let next = fill(&mut client);
    client.frame(EMERGENCY, 0, b"SAFE_MODE");
    client.settle(2);
    daemon.release();
    client.wait_durable(EMERGENCY, 1);
    client.wait_durable(ROUTINE, next);
    let archived = daemon.archived();
    let emergency = archived.iter().find(|frame| frame.lane == EMERGENCY).unwrap();
    let later = &archived[emergency.offset as usize + 1..];
    assert!(later.iter().any(|frame| frame.received_ns < emergency.received_ns), "nothing was overtaken");
    let (mut subscriber, subscribed) =
        Subscriber::open(daemon.feed(), &Subscribe::received(emergency.received_ns));
    assert_eq!(subscribed.start_offset, emergency.offset);
    assert_eq!(subscriber.expect_frames(later.len() + 1), archived[emergency.offset as usize..]);
    drop((client, subscriber));
    daemon.stop();
}

#[test]
fn an_expired_offset_begins_with_a_gap() {
    let mut daemon = Daemon::start("");
    // A segment has 8 MiB: the frames fill two segments and begin a third.
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..1_200 {
        client.frame_within_credit(ROUTINE, sequence, &[sequence as u8; 16_000]);
    }
    client.wait_durable(ROUTINE, 1_200);
    drop(client);
    let archived = daemon.archived();
    daemon.stop();
    let mut segments: Vec<_> =
        std::fs::read_dir(daemon.archive_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    // Remove the segment, as retention does.
    std::fs::remove_file(&segments[0]).unwrap();
    let first: u64 = segments[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();

    let daemon = daemon.restart();
    for start in [0, 1, first - 1] {
        let (mut subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::offset(start));
        assert_eq!(subscriber.expect_gap(), (reason::EXPIRED, start, first));
        assert_eq!(subscriber.expect_frames(20), archived[first as usize..][..20]);
    }
    // The ranges are offsets, independent of the filter.
    let (mut nothing, _) = Subscriber::open(daemon.feed(), &Subscribe::offset(5).sources(&[99]));
    assert_eq!(nothing.expect_gap(), (reason::EXPIRED, 5, first));
    let (mut oldest, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    assert_eq!(subscribed.start_offset, first);
    assert_eq!(oldest.expect_frame(), archived[first as usize]);
    let (mut kept, _) = Subscriber::open(daemon.feed(), &Subscribe::offset(first));
    assert_eq!(kept.expect_frame(), archived[first as usize]);
}
