//! The tail: what it keeps, what it discards, and that tail and log together have every frame once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::outbox::Outbox;
use super::tail::{Follower, Found, Tail};
use archive::{Commit, encoded};
use frame::{Frame, FrameFlags, FramePriority, Origin, Selection, SourceKind, Station, StreamKey};
use wire::{Deliver, FeedMessage, next_body};

const TAIL_BYTES: usize = 64 << 10;

fn frame(sequence: u64, payload_len: usize) -> Frame {
    let source_id = (sequence % 3) as u32;
    let stream =
        StreamKey { source_id, source_kind: SourceKind::LiveUplink, station: Station::new("KIR").unwrap() };
    Frame {
        source_id,
        source_kind: SourceKind::LiveUplink,
        priority: FramePriority::Routine,
        flags: FrameFlags::default(),
        sequence,
        ert_ns: 1,
        received_ns: 2,
        origin: Arc::new(Origin { stream, epoch: 4 }),
        payload: Bytes::from(vec![sequence as u8; payload_len]),
    }
}

/// Publishes `count` frames, whose sequences are their offsets.
fn publish(tail: &Tail, first_offset: u64, count: u64, payload_len: usize) {
    let next_offset = first_offset + count;
    let frames: Vec<Frame> = (first_offset..next_offset).map(|offset| frame(offset, payload_len)).collect();
    let frames = encoded(&frames);
    let commit = Commit { first_offset, next_offset, frames: frames.frames(), received: &[], positions: &[] };
    tail.publish(&commit);
}

/// Encodes everything that was published.
fn encode(tail: &Tail) {
    let run = tail.run();
    let mut run = std::pin::pin!(run);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    // The task yields between two commits, and is pending only when there is nothing left to do.
    for _ in 0..1_000 {
        assert!(run.as_mut().poll(&mut context).is_pending());
    }
}

fn offsets(mut messages: BytesMut) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(body) = next_body(&mut messages, 1 << 20).unwrap() {
        let FeedMessage::Deliver(Deliver { offset, frame }) = FeedMessage::decode(body).unwrap() else {
            panic!("not a DELIVER");
        };
        assert_eq!(frame.sequence, offset);
        offsets.push(offset);
    }
    assert!(messages.is_empty(), "half a message");
    offsets
}

/// The offsets that the ring has from `offset` on, limited to a selection.
fn take(follower: &Follower, offset: u64, selection: &Selection) -> Vec<u64> {
    let (mut offset, mut taken) = (offset, Vec::new());
    while let Found::Piece(piece) = follower.find(offset) {
        taken.extend(offsets(BytesMut::from(&piece.select(offset, selection)[..])));
        offset = piece.next_offset();
    }
    taken
}

#[test]
fn without_a_subscriber_nothing_is_kept() {
    let tail = Tail::new(TAIL_BYTES);
    publish(&tail, 0, 5, 10);
    let (follower, head) = tail.subscribe(|| 5);
    encode(&tail);
    assert_eq!(head, 5);
    assert!(matches!(follower.find(5), Found::AtEnd));
    assert!(matches!(follower.find(0), Found::Behind(5)));
}

#[test]
fn a_subscriber_gets_all_commits_from_its_head_on() {
    let tail = Tail::new(TAIL_BYTES);
    let (follower, _) = tail.subscribe(|| 100);
    publish(&tail, 100, 30, 10);
    publish(&tail, 130, 5, 10);
    encode(&tail);
    assert_eq!(take(&follower, 100, &Selection::default()), (100..135).collect::<Vec<_>>());
    assert_eq!(take(&follower, 128, &Selection::default()), (128..135).collect::<Vec<_>>());
    assert_eq!(take(&follower, 101, &Selection::of_sources([0])), (102..135).step_by(3).collect::<Vec<_>>());
}

#[test]
fn a_commit_below_the_start_of_the_ring_is_not_delivered() {
    let tail = Tail::new(TAIL_BYTES);
    // The count went up, then the commit was published, then the head was read.
    let (follower, head) = tail.subscribe(|| {
        publish(&tail, 40, 10, 10);
        50
    });
    encode(&tail);
    publish(&tail, 50, 1, 10);
    encode(&tail);
    assert_eq!(take(&follower, head, &Selection::default()), [50]);
}

#[test]
fn the_oldest_pieces_are_dropped_and_a_late_subscriber_learns_it() {
    let tail = Tail::new(TAIL_BYTES);
    let (follower, _) = tail.subscribe(|| 0);
    for commit in 0..20 {
        publish(&tail, commit * 10, 10, 1_000);
        encode(&tail);
    }
    let Found::Behind(first) = follower.find(0) else { panic!("200 KB do not fit into 48") };
    assert!((150..200).contains(&first), "{first}");
    assert_eq!(take(&follower, first, &Selection::default()), (first..200).collect::<Vec<_>>());
    assert!(follower.is_late(first));
    assert!(!follower.is_late(199));
}

#[test]
fn a_slow_log_takes_no_more_memory_than_a_fast_one() {
    let tail = Tail::new(TAIL_BYTES);
    let (follower, _) = tail.subscribe(|| 0);
    for offset in 0..600 {
        publish(&tail, offset, 1, 0);
        if offset % 20 == 19 {
            encode(&tail);
        }
    }
    let Found::Behind(first) = follower.find(0) else { panic!("600 pieces do not fit into 48 KB") };
    // A piece takes a few hundred bytes, however short its message is.
    assert!((400..600).contains(&first), "{first}");
    assert_eq!(take(&follower, first, &Selection::default()), (first..600).collect::<Vec<_>>());
}

#[test]
fn commits_dropped_before_encoding_are_read_from_the_log() {
    let tail = Tail::new(TAIL_BYTES);
    let (follower, _) = tail.subscribe(|| 0);
    publish(&tail, 0, 10, 1_000);
    publish(&tail, 10, 10, 1_000);
    publish(&tail, 20, 1, 10);
    encode(&tail);
    assert!(matches!(follower.find(0), Found::Behind(20)));
    assert_eq!(take(&follower, 20, &Selection::default()), [20]);
}

#[test]
fn a_restarted_ring_does_not_use_commits_dropped_before() {
    let tail = Tail::new(TAIL_BYTES);
    let (follower, _) = tail.subscribe(|| 0);
    publish(&tail, 0, 10, 1_000);
    publish(&tail, 10, 10, 1_000);
    drop(follower);
    // These commits have no subscriber. Then one subscribes before the encoder has had its turn.
    let (follower, _) = tail.subscribe(|| 50);
    encode(&tail);
    assert!(matches!(follower.find(30), Found::Behind(50)));
}

#[test]
fn a_ring_without_subscribers_restarts_at_the_next_head() {
    let tail = Tail::new(TAIL_BYTES);
    let (follower, _) = tail.subscribe(|| 0);
    publish(&tail, 0, 3, 10);
    encode(&tail);
    drop(follower);
    publish(&tail, 3, 3, 10);
    let (follower, _) = tail.subscribe(|| 6);
    publish(&tail, 6, 3, 10);
    encode(&tail);
    assert!(matches!(follower.find(2), Found::Behind(6)));
    assert_eq!(take(&follower, 6, &Selection::default()), [6, 7, 8]);
}

#[tokio::test]
async fn an_outbox_yields_every_byte_once_in_writes_of_any_size() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut near = tls::Socket::from(near);
    let (mut far, _) = listener.accept().await.unwrap();
    let mut outbox = Outbox::default();
    let mut expected = Vec::new();
    for index in 0..3_000_u32 {
        let piece: Vec<u8> = index.to_be_bytes().repeat(index as usize % 700);
        expected.extend_from_slice(&piece);
        outbox.push(piece.into());
    }
    let reading = async {
        let mut read = vec![0; expected.len()];
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut read).await.unwrap();
        read
    };
    let writing = async {
        while !outbox.is_empty() {
            near.ready(false, true).await.unwrap();
            outbox.write_to(&mut near).unwrap();
        }
    };
    let ((), read) = tokio::join!(writing, reading);
    assert!(read == expected);
}

#[derive(Clone, Debug)]
enum Step {
    /// Commits frames of this size.
    Commit { count: u64, payload_len: usize },
    /// The encoder gets its turn.
    Encode,
    /// The subscriber takes what is available, from the ring or from the log.
    Take,
    /// The subscriber leaves, and returns at the same position.
    Reconnect,
}

proptest! {
    #[test]
    fn tail_and_log_together_have_every_frame_once(steps in proptest::collection::vec(prop_oneof![
        4 => (1_u64..40, 0_usize..2_000).prop_map(|(count, payload_len)| Step::Commit { count, payload_len }),
        3 => Just(Step::Encode),
        3 => Just(Step::Take),
        1 => Just(Step::Reconnect),
    ], 1..60)) {
        let tail = Tail::new(TAIL_BYTES);
        let (mut durable, mut next, mut taken) = (0_u64, 0_u64, Vec::new());
        let (mut follower, _) = tail.subscribe(|| 0);
        for step in steps.into_iter().chain([Step::Encode, Step::Take]) {
            match step {
                Step::Commit { count, payload_len } => {
                    let first = durable;
                    durable += count;
                    publish(&tail, first, count, payload_len);
                }
                Step::Encode => encode(&tail),
                Step::Reconnect => {
                    drop(follower);
                    follower = tail.subscribe(|| durable).0;
                }
                Step::Take => {
                    if let Found::Behind(first) = follower.find(next) {
                        prop_assert!(first <= durable, "the ring begins above what is durable");
                        taken.extend(next..durable);
                        next = durable;
                    }
                    let found = take(&follower, next, &Selection::default());
                    next += found.len() as u64;
                    taken.extend(found);
                }
            }
        }
        prop_assert_eq!(taken, (0..durable).collect::<Vec<_>>());
    }
}
