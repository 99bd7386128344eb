//! Tests that visiting frames in place shows the same frames as the iterator, and skips blocks below the requested
//! offset.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::support::*;
use crate::format::names::segment_name;
use crate::storage::mem::MemStorage;
use crate::{Filter, Item, Reader, Storage, Visited};
use frame::{FramePriority, Selection};

/// Offset, sequence and payload of a frame, or `None` for a gap.
type Shown = Option<(u64, u64, Vec<u8>)>;

fn handed_out(storage: &MemStorage, filter: &Filter) -> Vec<Shown> {
    let shown = |item| match item {
        Item::Frame(stored) => Some((stored.offset, stored.frame.sequence, stored.frame.payload.to_vec())),
        Item::Damage(_) | Item::Expired(_) => None,
    };
    items(storage, filter.clone()).into_iter().map(shown).collect()
}

/// Returns what a visitor sees that stops after each `step` frames.
fn visited(storage: &MemStorage, filter: &Filter, step: usize) -> Vec<Shown> {
    let mut reader = Reader::open_on(Arc::new(storage.clone()), dir(), filter.clone()).unwrap();
    let mut shown = Vec::new();
    loop {
        let mut left = step;
        let visited = reader.visit(|offset, frame| {
            shown.push(Some((offset, frame.sequence, frame.payload.to_vec())));
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match visited.unwrap() {
            Visited::Enough => {}
            Visited::Gap(_) => shown.push(None),
            Visited::End => return shown,
        }
    }
}

/// Creates one segment of ten commits of 20 frames, with both lanes of two sources. A byte of the third commit is
/// wrong.
async fn damaged() -> MemStorage {
    let storage = MemStorage::default();
    let mut running = start_untended(&storage);
    for commit in 0..10 {
        let frames = (0..20).map(|index| {
            let sequence: u64 = commit * 20 + index;
            let make = if sequence.is_multiple_of(3) { emergency } else { routine };
            make(&origin(1 + (sequence % 2) as u32, 1), sequence)
        });
        running.commit(frames.collect()).await;
    }
    running.finish().await;
    let path = dir().join(segment_name(0));
    let mut bytes = storage.content(&path);
    let at = bytes.windows(8).position(|bytes| bytes == 46_u64.to_le_bytes()).unwrap();
    bytes[at + 24] ^= 1;
    overwrite(&storage, &path, &bytes);
    storage
}

#[tokio::test]
async fn a_visitor_sees_the_same_frames_as_the_iterator() {
    let storage = damaged().await;
    let lane = |lane| Selection::default().with_priority(Some(lane));
    let filters = [
        Filter::default(),
        Filter { from_offset: 7, to_offset: Some(150), ..Filter::default() },
        Filter { limit: Some(33), ..Filter::default() },
        Filter { selection: lane(FramePriority::Emergency), ..Filter::default() },
        Filter { selection: Selection::of_sources([2]), from_offset: 70, ..Filter::default() },
    ];
    for filter in &filters {
        let expected = handed_out(&storage, filter);
        assert!(!expected.is_empty());
        for step in [1, 7, 1_000] {
            assert_eq!(visited(&storage, filter, step), expected, "{filter:?}, {step} at a time");
        }
    }
}

#[tokio::test]
async fn blocks_below_what_is_asked_for_are_not_read() {
    let storage = damaged().await;
    let shown = |from_offset| handed_out(&storage, &Filter { from_offset, ..Filter::default() });
    let gaps = |shown: &[Shown]| shown.iter().filter(|shown| shown.is_none()).count();
    assert_eq!(gaps(&shown(0)), 1);
    for from_offset in [60, 61, 79, 80, 199] {
        let shown = shown(from_offset);
        assert_eq!(gaps(&shown), 0, "from {from_offset}");
        let offsets: Vec<u64> = shown.into_iter().flatten().map(|(offset, ..)| offset).collect();
        assert_eq!(offsets, (from_offset..200).collect::<Vec<_>>());
    }
    assert_eq!(gaps(&shown(59)), 1, "the block of which one frame is asked for");
    assert!(storage.list(dir()).unwrap().iter().filter(|name| name.ends_with(".seg")).count() == 1);
}
