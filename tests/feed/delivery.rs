//! DELIVER: its layout, its order, and that the daemon delivers only durable frames.

use std::time::Duration;

use crate::scene::{durable, fill, payload, peculiar, send_durable};
use crate::support::{
    Client, Daemon, EMERGENCY, Feed, Heard, HeldDaemon, Hello, ROUTINE, Subscribe, Subscriber,
};

/// Long enough for a frame to arrive if the daemon does not withhold it.
const A_WHILE: Duration = Duration::from_millis(300);

#[test]
fn a_delivery_carries_all_fields_of_its_frame() {
    let daemon = Daemon::start("");
    let (mut live, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let station = "é".repeat(32);
    let hello = Hello::new(u32::MAX).kind(1).station(&station).epoch(0x0102_0304_0506_0708);
    let (mut client, _) = Client::open(daemon.address(), &hello);
    client.send_frame(&peculiar(EMERGENCY, u64::MAX - 1, 0x83, -5, b"SAFE_MODE"));
    client.wait_durable(EMERGENCY, u64::MAX);
    client.send_frame(&peculiar(ROUTINE, 0, 0, i64::MAX, b""));
    client.wait_durable(ROUTINE, 1);
    let frames = live.expect_frames(2);
    assert_eq!(frames, daemon.archived(), "what is delivered is what is archived");
    let first = &frames[0];
    assert_eq!((first.offset, first.source_id, first.kind, first.lane), (0, u32::MAX, 1, EMERGENCY));
    assert_eq!((first.sequence, first.epoch, first.ert_ns), (u64::MAX - 1, 0x0102_0304_0506_0708, -5));
    assert_eq!((first.flags, &first.station, &first.payload[..]), (0x83, &station, &b"SAFE_MODE"[..]));
    assert!(first.received_ns > 1_500_000_000_000_000_000, "{}", first.received_ns);
    assert_eq!((frames[1].lane, &frames[1].payload[..]), (ROUTINE, &b""[..]));
    let (mut history, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    assert_eq!(history.expect_frames(2), frames, "history and live are alike");
}

#[test]
fn the_longest_frame_with_the_longest_station_is_delivered() {
    let daemon = Daemon::start("[ingest]\nmax_message = \"12 KiB\"");
    let (mut live, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).station(&"s".repeat(64)));
    let longest = vec![7; 12 * 1024 - 20];
    client.deliver(ROUTINE, 0, &longest);
    let frame = live.expect_frame();
    assert_eq!(116 + frame.payload.len(), subscribed.max_message_bytes as usize + 96);
    let (mut history, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    assert_eq!(history.expect_frame().payload, longest);
}

#[test]
fn nothing_is_delivered_before_the_disk_has_synced_it() {
    let mut daemon = HeldDaemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    client.deliver(ROUTINE, 0, b"durable");
    let (mut live, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    daemon.hold();
    client.frame(ROUTINE, 1, b"not yet");
    client.frame(EMERGENCY, 0, b"not yet either");
    daemon.wait_sync();
    assert_eq!(live.receive(A_WHILE), Heard::Silence);
    // Frames that are written to the segment and not synced are not history either.
    let (mut history, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    assert_eq!(subscribed.head_offset, 1, "the head is the durable one");
    assert_eq!(history.expect_frame().payload, b"durable");
    assert_eq!(history.receive(A_WHILE), Heard::Silence);
    let error = Subscriber::refused(daemon.feed(), &Subscribe::offset(2), crate::support::code::PROTOCOL);
    assert_eq!(error.detail, 1);
    let (_, received) = Subscriber::open(daemon.feed(), &Subscribe::received(i64::MAX));
    assert_eq!(received.start_offset, 1);
    daemon.release();
    let frames = live.expect_frames(2);
    assert_eq!(frames, history.expect_frames(2));
    assert_eq!(frames, daemon.archived()[1..]);
    drop((client, live, history));
    daemon.stop();
}

#[test]
fn history_runs_into_live_without_a_hole_or_a_repeat() {
    let daemon = Daemon::start("[feed]\nmax_subscribers = 32");
    let mut client = durable(daemon.address(), 7, 500);
    let feed = daemon.feed();
    // Subscribers begin one after the other while frames arrive, so each crosses from the log to the tail at another
    // offset.
    let readers: Vec<_> = (0..20)
        .map(|step| {
            let start = step * 25;
            let (mut subscriber, _) = Subscriber::open(feed, &Subscribe::offset(start));
            send_durable(&mut client, 500 + step * 50, 50);
            std::thread::spawn(move || (start, subscriber.expect_frames(1_500 - start as usize)))
        })
        .collect();
    let archived = daemon.archived();
    assert_eq!(archived.len(), 1_500);
    assert!(archived.iter().all(|frame| frame.payload == payload(frame.sequence)));
    for reader in readers {
        let (start, frames) = reader.join().expect("a subscriber failed");
        assert!(frames == archived[start as usize..], "from {start}");
    }
}

#[test]
fn the_order_is_that_of_the_log_in_which_emergencies_overtake() {
    let mut daemon = HeldDaemon::start("[ingest]\nroutine_window = \"64 KiB\"");
    let (mut live, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    let (mut emergencies, _) = Subscriber::open(daemon.feed(), &Subscribe::live().priorities(1));
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    daemon.hold();
    let next = fill(&mut client);
    client.frame(EMERGENCY, 0, b"SAFE_MODE");
    client.settle(1);
    daemon.release();
    client.wait_durable(EMERGENCY, 1);
    client.wait_durable(ROUTINE, next);
    let frames = live.expect_frames(next as usize + 1);
    let emergency = frames.iter().position(|frame| frame.lane == EMERGENCY).unwrap() as u64;
    assert!(emergency < next, "it overtook nothing");
    assert_eq!(frames, daemon.archived());
    assert_eq!(emergencies.expect_frame().payload, b"SAFE_MODE");
    drop((client, live, emergencies));
    daemon.stop();
}

#[test]
fn a_subscriber_that_reads_at_once_gets_megabytes_without_pauses() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..1_000 {
        client.frame_within_credit(ROUTINE, sequence, &[sequence as u8; 16_000]);
    }
    client.wait_durable(ROUTINE, 1_000);
    let (mut history, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    let since = std::time::Instant::now();
    history.expect_frames(1_000);
    // 16 MB over loopback: a pause of 100 ms after each 256 KiB would add up to 6 s.
    assert!(since.elapsed() < Duration::from_secs(4), "16 MB took {:?}", since.elapsed());
}

#[test]
fn two_subscribers_are_served_independently() {
    let daemon = Daemon::start("");
    let mut client = durable(daemon.address(), 7, 2);
    let (mut one, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    let (mut other, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    send_durable(&mut client, 2, 1);
    assert_eq!(one.expect_frames(3).len(), 3);
    assert_eq!(other.expect_frame().offset, 2);
    drop(one);
    send_durable(&mut client, 3, 1);
    assert!(matches!(other.next_of_the_log(), Feed::Deliver(frame) if frame.offset == 3));
}
