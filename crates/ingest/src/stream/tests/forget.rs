//! Which streams are forgotten, which are not, and what happens to them meanwhile.

use super::*;
use crate::pipeline::fan_in::{FanIn, FanInConfig};
use crate::pipeline::{Gate, Output, OutputGone};
use frame::{Batch, Lanes};

struct Nowhere;

impl Output for Nowhere {
    async fn append(&mut self, _batch: Batch) -> Result<(), OutputGone> {
        Ok(())
    }
}

/// Moves the frames that wait in `queue` on to the processor.
async fn empty(queue: &SourceQueue, sources: &Arc<Sources>) {
    let mut fan_in = FanIn::new(Arc::clone(sources), Gate::open(), FanInConfig::default(), Arc::default());
    while queue.queued_frames() != Lanes::default() {
        fan_in.next_batch(&Nowhere).await.unwrap();
    }
}

fn at(source_id: u32, station: &str) -> StreamKey {
    StreamKey { station: Station::new(station).unwrap(), ..key(source_id) }
}

fn roomy() -> StreamTable {
    StreamTable::new(StreamLimits { total: 100, per_source: 100, invented: 2 })
}

fn keys(table: &StreamTable) -> Vec<StreamKey> {
    table.views().into_iter().map(|view| view.key).collect()
}

fn of(source_id: u32) -> Selector {
    Selector { source_ids: vec![source_id], ..Selector::default() }
}

/// Forgets the matching streams where possible, and returns the others.
fn forget(table: &StreamTable, selector: &Selector) -> Vec<(StreamKey, ForgetRefused)> {
    let selected = table.begin_forget(selector, false);
    table.finish_forget(selected.forgetting);
    selected.refused
}

#[test]
fn a_pattern_matches_the_whole_name() {
    for (pattern, text, expected) in [
        ("", "", true),
        ("*", "", true),
        ("*", "svalbard", true),
        ("s*d", "svalbard", true),
        ("s*l*r?", "svalbard", true),
        ("*bar", "svalbard", false),
        ("sval", "svalbard", false),
        ("??", "\u{e5}s", true),
        ("?", "", false),
        ("a*a*a*a*b", &"a".repeat(64), false),
        ("***", "x", true),
    ] {
        assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn all_conditions_of_a_selector_must_hold() {
    let table = roomy();
    let replay = StreamKey { source_kind: SourceKind::ArchivedReplay, ..at(1, "kiruna") };
    for key in [at(1, "kiruna"), at(1, "kiel"), at(2, "kiruna"), at(3, ""), replay.clone()] {
        table.restore(key, 7, Lanes::new(1, 2), queue(), None);
    }
    let station = |name: &str| Selector { station: Some(name.to_owned()), ..Selector::default() };
    let pattern = |name: &str| Selector { station_glob: Some(name.to_owned()), ..of(1) };
    for (selector, expected) in [
        (of(1), vec![at(1, "kiel"), at(1, "kiruna"), replay.clone()]),
        (Selector { kind: Some(SourceKind::ArchivedReplay), ..pattern("ki*") }, vec![replay.clone()]),
        (pattern("ki?l"), vec![at(1, "kiel")]),
        (station(""), vec![at(3, "")]),
        (station("ki*"), vec![]),
    ] {
        let selected = table.begin_forget(&selector, true);
        let found: Vec<_> = selected.forgetting.streams().map(|(key, _)| key.clone()).collect();
        assert_eq!(found, expected, "{selector:?}");
    }
    assert_eq!(keys(&table).len(), 5, "a dry run forgets nothing");
    assert_eq!(forget(&table, &pattern("k*")), []);
    assert_eq!(keys(&table), [at(2, "kiruna"), at(3, "")]);
}

#[tokio::test]
async fn a_connected_queued_or_unsynced_stream_is_refused() {
    let (table, now, sources) = (roomy(), Instant::now(), Sources::new());
    let stream =
        table.named(&key(1), || SourceQueue::new(Arc::clone(&sources), Lanes::both(1 << 18))).unwrap();
    let refused = |why| assert_eq!(forget(&table, &of(1)), [(key(1), why)]);
    let (owner, _mailbox) = owner(8);
    let (origin, _) = stream.open(owner, Some(5), 10, now).unwrap();
    refused(ForgetRefused::Connected(8));
    stream.accept(8, Lanes::new(0, 3), batch(&origin, Routine, 0..3)).unwrap();
    stream.release(8, Some(StreamState::Ended));
    refused(ForgetRefused::Queued(3));
    // The fan-in has taken the frames. They are not synced yet.
    empty(&stream.queue, &sources).await;
    refused(ForgetRefused::Unsynced(3));
    table.advance_in_commit(&origin, Routine, 3, 3, Duration::ZERO);
    let reset = table.begin_reset(&key(1), 4).unwrap();
    refused(ForgetRefused::UnderWay);
    drop(reset);
    assert_eq!(forget(&table, &of(1)), []);
    assert_eq!(keys(&table), []);
    assert_eq!(forget(&table, &of(1)), [], "nothing is there to be forgotten");
}

#[test]
fn no_session_opens_a_stream_that_is_being_forgotten() {
    let (table, now) = (roomy(), Instant::now());
    table.restore(key(1), 7, Lanes::new(1, 2), queue(), None);
    let open = |stream: &Arc<Stream>| {
        let (owner, _mailbox) = owner(1);
        stream
            .open(owner, Some(7), 10, now)
            .map(|(_, position)| position.accepted_next)
            .map_err(|error| error.code)
    };
    let held = table.named(&key(1), queue).unwrap();
    let selected = table.begin_forget(&of(1), false);
    assert_eq!(open(&held), Err(ErrorCode::Busy));
    assert!(matches!(table.begin_reset(&key(1), 4), Err(ResetRefused::UnderWay)));
    assert_eq!(forget(&table, &of(1)), [(key(1), ForgetRefused::UnderWay)]);
    // The archive had no space for the edit.
    drop(selected);
    assert_eq!(open(&held), Ok(Lanes::new(1, 2)));
    held.release(1, Some(StreamState::Ended));
    assert_eq!(forget(&table, &of(1)), []);
    assert_eq!(open(&held), Err(ErrorCode::Busy), "a session that found the stream before looks it up again");
    assert_eq!(open(&table.named(&key(1), queue).unwrap()), Ok(Lanes::default()));
}

#[test]
fn a_blank_stream_that_is_being_forgotten_still_takes_its_place() {
    let table = StreamTable::new(limits(1));
    table.named(&key(1), queue).unwrap();
    let selected = table.begin_forget(&of(1), false);
    assert_eq!(table.named(&key(2), queue).unwrap_err().code, ErrorCode::Limit);
    table.finish_forget(selected.forgetting);
    assert!(table.named(&key(2), queue).is_ok());
}

#[test]
fn a_forgotten_stream_frees_its_place() {
    let table = StreamTable::new(StreamLimits { total: 3, per_source: 2, invented: 2 });
    for key in [at(1, "a"), at(1, "b"), at(2, "a")] {
        table.restore(key, 5, Lanes::new(0, 1), queue(), None);
    }
    assert!(used(&table, &at(1, "c")).is_err() && used(&table, &at(3, "a")).is_err());
    assert_eq!(forget(&table, &Selector { station: Some("a".into()), ..of(1) }), []);
    assert_eq!(used(&table, &at(1, "c")), Ok(()));
    assert!(used(&table, &at(1, "d")).is_err(), "two again");
}

#[tokio::test(start_paused = true)]
async fn how_long_a_stream_is_offline_is_measured_from_its_last_connection() {
    let table = roomy();
    table.restore(key(1), 7, Lanes::new(1, 2), queue(), None);
    table.restore(key(2), 7, Lanes::new(1, 2), queue(), None);
    let hour = Duration::from_secs(3600);
    tokio::time::advance(hour).await;
    let stream = table.named(&key(2), queue).unwrap();
    let (owner, _mailbox) = owner(1);
    stream.open(owner, Some(7), 10, Instant::now()).unwrap();
    let offline_for = |min| {
        let selector = Selector { offline_for: Some(min), ..Selector::default() };
        let selected = table.begin_forget(&selector, true);
        assert_eq!(selected.refused, [], "a connected stream does not match");
        selected.forgetting.streams().map(|(key, _)| key.source_id).collect::<Vec<_>>()
    };
    assert_eq!(offline_for(Duration::ZERO), [1]);
    stream.release(1, Some(StreamState::Ended));
    assert_eq!(offline_for(Duration::ZERO), [1, 2]);
    tokio::time::advance(hour / 2).await;
    assert_eq!((offline_for(hour), offline_for(hour / 2)), (vec![1], vec![1, 2]));
    assert!(offline_for(hour * 2).is_empty());
}

#[test]
fn a_limited_number_of_streams_is_forgotten_at_a_time() {
    let table = StreamTable::new(StreamLimits { total: usize::MAX, per_source: usize::MAX, invented: 2 });
    for source_id in 0..FORGET_MAX as u32 + 5 {
        table.restore(key(source_id), 7, Lanes::new(1, 2), queue(), None);
    }
    let everything = Selector { offline_for: Some(Duration::ZERO), ..Selector::default() };
    let selected = table.begin_forget(&everything, false);
    assert_eq!((selected.forgetting.streams().len(), selected.remaining), (FORGET_MAX, 5));
    table.finish_forget(selected.forgetting);
    let left: Vec<_> = keys(&table).iter().map(|key| key.source_id).collect();
    assert_eq!(left, (FORGET_MAX as u32..).take(5).collect::<Vec<_>>(), "in the order of their names");
}
