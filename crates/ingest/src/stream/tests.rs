//! Which session speaks for a stream, and what each new owner starts with.

use super::*;
use crate::pipeline::Sources;
use FramePriority::{Emergency, Routine};
use actor::{Capacity, Mailbox, Received, mailbox};
use frame::{Frame, FrameFlags, Lanes, SourceKind, Station, joined};

mod forget;

fn key(source_id: u32) -> StreamKey {
    StreamKey { source_id, source_kind: SourceKind::LiveUplink, station: Station::default() }
}

fn queue() -> Arc<SourceQueue> {
    SourceQueue::new(Sources::new(), Lanes::new(1 << 18, 1 << 20))
}

fn owner(session_id: SessionId) -> (StreamOwner, Mailbox<Stop>) {
    let (session, mailbox) = mailbox(Capacity { urgent: 4, routine: 1 });
    (
        StreamOwner {
            session_id,
            session,
            room: Arc::default(),
            acks: Some(AckSignal::new(Arc::default(), Instant::now())),
            shares_sequence: false,
            link: None,
        },
        mailbox,
    )
}

#[test]
fn a_link_keeps_its_stream_and_takes_over_none() {
    let table = StreamTable::new(StreamLimits { total: 9, per_source: 9, invented: 2 });
    let stream = table.named(&key(1), queue).unwrap();
    let now = Instant::now();
    let of_link = |session_id, name: &str| {
        let (owner, mailbox) = owner(session_id);
        let link = LinkOwner { name: name.into(), queued: Arc::default() };
        (StreamOwner { acks: None, link: Some(link), ..owner }, mailbox)
    };
    let ((link, mut orders), (other, _)) = (of_link(1, "kiruna"), of_link(2, "svalbard"));
    let (origin, position) = stream.open(link, None, 10, now).unwrap();
    assert_eq!(
        (origin.epoch, position.accepted_next),
        (1, Lanes::default()),
        "a new stream begins with epoch 1"
    );
    let refused = stream.open(other.clone(), None, 10, now).unwrap_err();
    assert_eq!(
        (refused.code, refused.text.contains("link kiruna")),
        (ErrorCode::Busy, true),
        "{}",
        refused.text
    );
    let (client, _) = owner(3);
    let refused = stream.open(client.clone(), Some(7), 10, now).unwrap_err();
    assert_eq!(
        (refused.code, refused.text.contains("link kiruna")),
        (ErrorCode::Busy, true),
        "{}",
        refused.text
    );
    assert_eq!(ordered(&mut orders), None, "the link goes on");

    stream.release(1, None);
    stream.open(client, Some(7), 10, now).unwrap();
    let refused = stream.open(other.clone(), None, 10, now).unwrap_err();
    assert_eq!(
        (refused.code, refused.text.contains("session 3")),
        (ErrorCode::Busy, true),
        "{}",
        refused.text
    );
    stream.release(3, None);
    let (origin, _) = stream.open(other, None, 10, now).unwrap();
    assert_eq!(origin.epoch, 7, "the link adopts the stream's epoch");
}

fn ordered(mailbox: &mut Mailbox<Stop>) -> Option<(ErrorCode, u64)> {
    match mailbox.try_recv() {
        Some(Received::Message(Stop(error))) => Some((error.code, error.detail)),
        _ => None,
    }
}

fn batch(
    origin: &Arc<Origin>,
    priority: FramePriority,
    sequences: std::ops::Range<u64>,
) -> Lanes<Option<FrameRun>> {
    let frames = sequences.map(|sequence| Frame {
        source_id: origin.stream.source_id,
        source_kind: origin.stream.source_kind,
        priority,
        flags: FrameFlags::default(),
        sequence,
        ert_ns: 0,
        received_ns: 0,
        origin: Arc::clone(origin),
        payload: bytes::Bytes::new(),
    });
    let mut lanes = Lanes::default();
    lanes[priority] = joined(&frames.collect::<Vec<_>>());
    lanes
}

fn limits(total: usize) -> StreamLimits {
    StreamLimits { total, per_source: 2, invented: 2 }
}

fn table() -> StreamTable {
    StreamTable::new(limits(2))
}

#[test]
fn the_newest_connection_of_an_epoch_takes_over_at_its_position() {
    let (table, now) = (table(), Instant::now());
    let stream = table.named(&key(1), queue).unwrap();
    let (first, mut first_mailbox) = owner(1);
    let (origin, position) = stream.open(first, Some(5), 10, now).unwrap();
    assert_eq!(position, Position { epoch: 5, ..Position::default() });
    stream.accept(1, Lanes::new(0, 3), batch(&origin, Routine, 0..3)).unwrap();

    let (second, _second_mailbox) = owner(2);
    let (_, position) = stream.open(second, Some(5), 10, now).unwrap();
    assert_eq!((position.accepted_next, position.durable_next), (Lanes::new(0, 3), Lanes::default()));
    assert_eq!(ordered(&mut first_mailbox), Some((ErrorCode::TakenOver, 0)));
    let late = batch(&origin, Routine, 3..9);
    assert_eq!(stream.accept(1, Lanes::new(0, 9), late), Err(Displaced), "nothing of the old one any more");
    assert_eq!(stream.queue.queued_frames(), Lanes::new(0, 3), "what it had handed over stays");
    stream.accept(2, Lanes::new(0, 4), batch(&origin, Routine, 3..4)).unwrap();
}

#[test]
fn a_higher_epoch_starts_at_0_and_fences_the_old_one() {
    let (table, now) = (table(), Instant::now());
    let stream = table.named(&key(1), queue).unwrap();
    let (first, mut first_mailbox) = owner(1);
    let (old, _) = stream.open(first, Some(5), 10, now).unwrap();
    stream.accept(1, Lanes::new(0, 3), batch(&old, Routine, 0..3)).unwrap();
    let (second, _second_mailbox) = owner(2);
    let (new, position) = stream.open(second, Some(6), 10, now).unwrap();
    assert_eq!(position, Position { epoch: 6, ..Position::default() });
    assert_eq!(ordered(&mut first_mailbox), Some((ErrorCode::Fenced, 6)));
    assert_eq!(stream.accept(1, Lanes::new(0, 9), batch(&old, Routine, 3..9)), Err(Displaced));

    table.advance_in_commit(&old, Routine, 3, 3, Duration::ZERO);
    assert_eq!(
        stream.position().durable_next,
        Lanes::new(0, 0),
        "positions of the old epoch are not the new one's"
    );
    table.advance_in_commit(&new, Emergency, 8, 1, Duration::ZERO);
    table.advance_in_commit(&new, Emergency, 7, 1, Duration::ZERO);
    assert_eq!(
        stream.position().durable_next,
        Lanes::new(8, 0),
        "it never falls, and the lanes are independent"
    );
    assert_eq!(stream.books.totals().archived, 5);

    let (third, _third_mailbox) = owner(3);
    let error = stream.open(third, Some(5), 10, now).unwrap_err();
    assert_eq!((error.code, error.detail), (ErrorCode::Fenced, 6));
}

#[test]
fn a_released_stream_changes_hands_without_a_takeover() {
    let (table, now) = (table(), Instant::now());
    let stream = table.named(&key(1), queue).unwrap();
    for session_id in 1..10 {
        let (owner, _mailbox) = owner(session_id);
        stream.open(owner, Some(1), 0, now).unwrap();
        stream.release(session_id + 1, Some(StreamState::Ended));
        assert!(
            stream.accept(session_id, Lanes::default(), Lanes::new(None, None)).is_ok(),
            "only its own session releases it"
        );
        stream.release(session_id, Some(StreamState::Ended));
    }
}

#[test]
fn takeovers_are_limited_within_a_minute() {
    let (table, start) = (table(), Instant::now());
    let stream = table.named(&key(1), queue).unwrap();
    let open = |session_id, at| {
        let (owner, _mailbox) = owner(session_id);
        stream.open(owner, Some(1), 2, at).map(|_| ()).map_err(|error| error.code)
    };
    assert_eq!(open(1, start), Ok(()));
    assert_eq!(open(2, start), Ok(()));
    assert_eq!(open(3, start), Ok(()));
    assert_eq!(open(4, start), Err(ErrorCode::Busy));
    assert_eq!(open(5, start + TAKEOVER_SPAN), Ok(()));
}

#[test]
fn a_full_table_forgets_blank_streams_and_then_refuses() {
    let (table, now) = (table(), Instant::now());
    let used = table.named(&key(1), queue).unwrap();
    let (owner_one, _mailbox) = owner(1);
    let (origin, _) = used.open(owner_one, Some(1), 9, now).unwrap();
    used.accept(1, Lanes::new(0, 1), batch(&origin, Routine, 0..1)).unwrap();
    used.release(1, Some(StreamState::Ended));
    table.named(&key(2), queue).unwrap();
    let open = table.named(&key(3), queue).expect("the blank one makes room");
    assert!(table.find(&key(2)).is_none());
    let (owner_two, _mailbox) = owner(2);
    open.open(owner_two, Some(1), 9, now).unwrap();
    let error = table.named(&key(4), queue).unwrap_err();
    assert_eq!(error.code, ErrorCode::Limit);
    assert!(error.text.contains("ingest.max_streams = 2"), "{}", error.text);
    assert!(table.named(&key(1), queue).is_ok(), "known ones are always served");
}

#[test]
fn a_stream_resumes_at_its_recovered_position() {
    let table = table();
    for source_id in 0..3 {
        table.restore(key(source_id), 7, Lanes::new(1, 2), queue(), None);
    }
    let stream = table.named(&key(2), queue).unwrap();
    let (owner, _mailbox) = owner(1);
    let (_, position) = stream.open(owner, Some(7), 0, Instant::now()).unwrap();
    assert_eq!((position.accepted_next, position.durable_next), (Lanes::new(1, 2), Lanes::new(1, 2)));
}

#[test]
fn a_lower_limit_of_streams_keeps_the_known_streams() {
    let (table, now) = (table(), Instant::now());
    for source_id in [1, 2] {
        let stream = table.named(&key(source_id), queue).unwrap();
        let (owner, _mailbox) = owner(1);
        let (origin, _) = stream.open(owner, Some(5), 10, now).unwrap();
        stream.accept(1, Lanes::new(0, 1), batch(&origin, Routine, 0..1)).unwrap();
    }
    table.set_limits(limits(1));
    assert!(table.named(&key(1), queue).is_ok() && table.named(&key(2), queue).is_ok());
    let error = table.named(&key(3), queue).unwrap_err();
    assert_eq!(error.code, ErrorCode::Limit);
    assert!(error.text.contains("ingest.max_streams = 1 is reached"), "{}", error.text);
    table.set_limits(limits(3));
    assert!(table.named(&key(3), queue).is_ok());
}

/// Opens the stream of `key` and accepts one frame of it, or returns why that fails.
fn used(table: &StreamTable, key: &StreamKey) -> Result<(), WireError> {
    let stream = table.named(key, queue)?;
    let (owner, _mailbox) = owner(1);
    let (origin, _) = stream.open(owner, Some(5), 10, Instant::now())?;
    stream.accept(1, Lanes::new(0, 1), batch(&origin, Routine, 0..1)).unwrap();
    stream.release(1, Some(StreamState::Ended));
    Ok(())
}

#[test]
fn a_source_fills_only_its_own_share() {
    let at = |source_id, station| StreamKey { station: Station::new(station).unwrap(), ..key(source_id) };
    let table = StreamTable::new(limits(100));
    table.restore(at(1, "recovered"), 7, Lanes::new(1, 2), queue(), None);
    table.named(&at(1, "blank"), queue).unwrap();
    used(&table, &at(1, "a")).expect("the blank one makes room");
    let error = used(&table, &at(1, "b")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Limit);
    for part in ["b", "source 1 has 2 streams", "ingest.max_streams_per_source = 2 is reached", "forget"] {
        assert!(error.text.contains(part), "{part}: {}", error.text);
    }
    assert_eq!(used(&table, &at(2, "b")), Ok(()), "another source has a share of its own");
    assert!(used(&table, &at(1, "recovered")).is_err_and(|error| error.code == ErrorCode::Fenced));
    table.set_limits(StreamLimits { total: 100, per_source: 3, invented: 2 });
    assert_eq!(used(&table, &at(1, "b")), Ok(()));
}

#[test]
fn what_the_peer_of_a_link_invents_takes_no_room_from_others() {
    let table = StreamTable::new(StreamLimits { total: 2, per_source: 1, invented: 3 });
    let invent = |source_id, link: &str| {
        let stream = table.of_link(&key(source_id), &link.into(), 2, queue)?;
        stream.lock().has_history = true;
        Some(())
    };
    table.restore(key(1), 7, Lanes::new(1, 2), queue(), Some("kiruna".into()));
    assert_eq!(invent(2, "kiruna"), Some(()));
    assert_eq!(invent(3, "kiruna"), None, "the link has 2");
    assert_eq!(invent(1, "kiruna"), Some(()), "a known one");
    assert_eq!(invent(3, "svalbard"), Some(()));
    assert_eq!(invent(4, "svalbard"), None, "all links have 3");
    for source_id in [10, 11] {
        assert_eq!(used(&table, &key(source_id)), Ok(()), "clients have room for 2");
    }
    assert!(used(&table, &key(12)).is_err_and(|error| error.text.contains("ingest.max_streams = 2")));
    let at = StreamKey { station: Station::new("KIRUNA").unwrap(), ..key(2) };
    table.set_limits(StreamLimits { total: 3, per_source: 1, invented: 9 });
    assert_eq!(used(&table, &at), Ok(()), "what a link invented does not count for the source either");
    assert_eq!(invent(4, "svalbard"), None, "the segments have room for 3");
}

#[test]
fn a_known_stream_takes_no_more_memory_than_counted() {
    // The two counters of an `Arc`.
    let shared = 2 * size_of::<usize>();
    let station = Station::BYTES_MAX;
    // A table that has just grown is 7/16 full, with a byte beside each slot.
    let slot = |bytes: usize| (bytes + 1) * 16 / 7;
    let stream = size_of::<Stream>() + size_of::<SourceQueue>() + size_of::<Origin>() + 3 * shared + station;
    let table = slot(size_of::<(StreamKey, Arc<Stream>)>()) + slot(size_of::<(u32, usize)>()) + station;
    let archive = slot(size_of::<(StreamKey, archive::StreamPosition)>()) + station;
    // As many as `ingest.max_takeovers_per_minute` allows by default, in a list that doubles.
    let takeovers = 32 * size_of::<Instant>();
    let takes = (stream + table + archive + takeovers) as u64;
    assert!(takes <= crate::STREAM_BYTES, "{takes} bytes");
}
