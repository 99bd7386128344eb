//! The daemon names missing frames to a subscriber: frames lost to damage and to retention.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::support::{
    Archived, Client, Daemon, Feed, Hello, ROUTINE, Subscribe, Subscriber, reason, wait_until,
};

const PAYLOAD_BYTES: usize = 16_000;

/// Sends frames that fill segments. Returns when they are durable.
fn flood(daemon: &Daemon, frames: u64) {
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
    for sequence in 0..frames {
        client.frame_within_credit(ROUTINE, sequence, &[sequence as u8; PAYLOAD_BYTES]);
    }
    client.wait_durable(ROUTINE, frames);
}

/// The segments, oldest first, each with its base offset.
fn segments(daemon: &Daemon) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(daemon.archive_dir()).expect("the archive has a directory");
    let mut segments: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path)))
        .collect();
    segments.sort();
    segments
}

/// Reads up to `head`. Returns the frames and the GAPs. The subscriber asserts that together they leave no hole.
fn read_to(subscriber: &mut Subscriber, head: u64) -> (Vec<Archived>, Vec<(u8, u64, u64)>) {
    let (mut frames, mut gaps) = (Vec::new(), Vec::new());
    while subscriber.next_offset() < head {
        match subscriber.next_of_the_log() {
            Feed::Deliver(frame) => frames.push(frame),
            Feed::Gap { reason, from, to } => gaps.push((reason, from, to)),
            other => panic!("a frame or a GAP is due, not {other:?}"),
        }
    }
    (frames, gaps)
}

#[test]
fn damage_in_an_old_segment_is_a_gap_and_the_rest_is_delivered() {
    let mut daemon = Daemon::start("");
    flood(&daemon, 1_200);
    let before = daemon.archived();
    daemon.stop();
    let segments = segments(&daemon);
    assert!(segments.len() >= 3, "{segments:?}");
    let segment = OpenOptions::new().read(true).write(true).open(&segments[0].1).unwrap();
    let at = segment.metadata().unwrap().len() / 2;
    let mut byte = [0];
    segment.read_exact_at(&mut byte, at).unwrap();
    segment.write_all_at(&[!byte[0]], at).unwrap();

    let daemon = daemon.restart();
    let (mut subscriber, subscribed) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    assert_eq!((subscribed.start_offset, subscribed.head_offset), (0, 1_200));
    let (frames, gaps) = read_to(&mut subscriber, 1_200);
    let &[(reason::DAMAGED, from, to)] = &gaps[..] else { panic!("one GAP of reason 3, not {gaps:?}") };
    assert!(0 < from && to < segments[1].0, "{from} to {to} is not in the middle of the first segment");
    let expected: Vec<_> = before.into_iter().filter(|frame| !(from..to).contains(&frame.offset)).collect();
    assert!(frames == expected, "what is around the damage was not delivered as it was");
    subscriber.settle(1);

    // The ranges are offsets, independent of the filter. A subscription that begins within a range receives the rest
    // of the range.
    let (mut nothing, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest().sources(&[99]));
    let (mut within, _) = Subscriber::open(daemon.feed(), &Subscribe::offset(to - 1));
    assert_eq!(within.expect_gap(), (reason::DAMAGED, to - 1, to));
    assert_eq!(within.expect_frame().offset, to);
    nothing.settle(1);
}

#[test]
fn frames_that_expire_before_a_stalled_subscriber_reads_them_are_a_gap() {
    const FRAMES: u64 = 4_000;
    // The tail holds far fewer frames than the subscriber is behind, and retention keeps far less than was sent.
    let daemon = Daemon::start("[pipeline]\nbroadcast_capacity = 4\n[archive]\nretention_size = \"24 MiB\"");
    let (mut stalled, _) = Subscriber::open(daemon.feed(), &Subscribe::live());
    flood(&daemon, FRAMES);
    // More frames have expired than all buffers on the way to the subscriber hold.
    wait_until("retention", || match segments(&daemon) {
        kept if kept[0].0 >= FRAMES / 2 => Ok(()),
        kept => Err(format!("{kept:?} are kept")),
    });
    let (frames, gaps) = read_to(&mut stalled, FRAMES);
    let expired: u64 = gaps.iter().map(|(_, from, to)| to - from).sum();
    assert!(gaps.iter().all(|(reason, ..)| *reason == reason::EXPIRED), "{gaps:?}");
    assert!(expired > 0, "it stood on what was kept: {} were delivered", frames.len());
    assert_eq!(frames.len() as u64 + expired, FRAMES);
    for frame in &frames {
        assert_eq!(frame.offset, frame.sequence);
        assert!(frame.payload == [frame.sequence as u8; PAYLOAD_BYTES], "payload of {}", frame.offset);
    }
    stalled.settle(1);
}
