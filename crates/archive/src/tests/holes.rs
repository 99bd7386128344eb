//! Tests of damage in acknowledged data: it is recorded once, and it is distinguished from later damage.

use super::new_storage;
use super::recover::{archive, blocks, found, frame_blocks};
use super::support::*;
use crate::format::{BlockKind, HoleRecord};
use crate::storage::mem::MemStorage;
use frame::Lanes;

#[tokio::test]
async fn damage_in_acknowledged_data_becomes_a_hole_once() {
    let storage = archive(6).await;
    let (path, headers) = frame_blocks(&storage);
    let mut image = storage.content(&path);
    for header in &headers[2..4] {
        image[header.position as usize + 70] ^= 0x10;
    }
    storage.put(&path, image);
    assert!(!found(&storage).1[0].recorded, "no start has recorded it");
    let mut running = start(&storage);
    let holes = &running.recovery.holes;
    assert_eq!(holes.len(), 1);
    assert_eq!((holes[0].from_offset, holes[0].to_offset), (2, 4));
    assert_eq!(holes[0].segment, path);
    assert_eq!(holes[0].position, headers[2].position);
    assert_eq!(holes[0].bytes, headers[3].end() - headers[2].position);
    assert_eq!(running.recovery.torn_bytes, 0);
    assert_eq!(running.recovery.next_offset, 6);
    assert_eq!(running.recovery.positions[0].1.next, Lanes::new(0, 6));
    running.commit(vec![routine(&origin(1, 1), 6)]).await;
    running.finish().await;

    let running = start(&storage);
    assert!(running.recovery.holes.is_empty(), "the alarm is raised once");
    running.finish().await;
    let (read, damages) = found(&storage);
    assert_eq!(sequences(&read), [0, 1, 4, 5, 6]);
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0].offsets, 2..4);
    assert!(damages[0].recorded);
    let kinds: Vec<_> = blocks(&storage).pop().unwrap().1.iter().map(|header| header.kind).collect();
    assert!(kinds.contains(&BlockKind::Hole), "{kinds:?}");
}

#[tokio::test]
async fn the_last_commit_is_acknowledged_data_once_it_is_attested() {
    let storage = archive(3).await;
    let (path, headers) = frame_blocks(&storage);
    let mut image = storage.content(&path);
    image[headers[2].position as usize + 1] ^= 1;
    storage.put(&path, image);
    let running = start(&storage);
    assert_eq!(running.recovery.next_offset, 3);
    assert_eq!(running.recovery.holes[0].from_offset, 2);
    running.finish().await;
    let (read, damages) = found(&storage);
    assert_eq!(sequences(&read), [0, 1]);
    assert_eq!(damages[0].offsets, 2..3);
    assert!(damages[0].recorded);
}

#[tokio::test]
async fn the_header_of_a_torn_block_attests_the_frames_below_it() {
    let storage = archive(5).await;
    let (path, headers) = frame_blocks(&storage);
    let content = storage.content(&path);
    let (hit, torn) = (headers[3], headers[4]);
    // Block 3 is damaged at each of its bytes in turn. Of block 4 only the header and part of the body are left.
    for at in hit.position..hit.end() {
        for kept in [64, 72] {
            let cut = (torn.position + kept) as usize;
            let disk = new_storage();
            let mut image = content[..cut].to_vec();
            image[at as usize] ^= 0x40;
            disk.put(&path, image);
            let mut running = start(&disk);
            let recovery = running.recovery.clone();
            let holes: Vec<_> =
                recovery.holes.iter().map(|hole| (hole.from_offset, hole.to_offset)).collect();
            assert_eq!(holes, [(3, 4)], "damaged at {at}");
            assert_eq!(
                (recovery.holes[0].position, recovery.holes[0].bytes),
                (hit.position, hit.end() - hit.position)
            );
            let torn = &content[torn.position as usize..cut];
            let torn_len = torn.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            assert_eq!((recovery.next_offset, recovery.torn_bytes), (4, torn_len as u64), "damaged at {at}");
            running.commit(vec![routine(&origin(1, 1), 9)]).await;
            running.finish().await;
            let (read, damages) = found(&disk);
            assert_eq!(sequences(&read), [0, 1, 2, 9]);
            assert_eq!(damages.len(), 1);
            assert_eq!((damages[0].offsets.clone(), damages[0].recorded), (3..4, true));
        }
    }
}

#[tokio::test]
async fn without_a_sound_header_behind_it_a_damaged_last_block_is_torn() {
    let storage = archive(5).await;
    let (path, headers) = frame_blocks(&storage);
    let cut = headers[4].position as usize + 64;
    let mut image = storage.content(&path)[..cut].to_vec();
    image[headers[3].position as usize + 80] ^= 1;
    image[cut - 10] ^= 1;
    storage.put(&path, image);
    let running = start(&storage);
    assert_eq!((running.recovery.next_offset, running.recovery.holes.len()), (3, 0));
    running.finish().await;
}

/// Returns the hole records of all segments.
pub(super) fn hole_records(storage: &MemStorage) -> Vec<(u64, u64)> {
    let mut records = Vec::new();
    for (path, headers) in blocks(storage) {
        let content = storage.content(&path);
        for header in headers.iter().filter(|header| header.kind == BlockKind::Hole) {
            let body = &content[header.position as usize + 64..header.end() as usize];
            let record = HoleRecord::decode(body).unwrap();
            records.push((record.from_offset, record.to_offset));
        }
    }
    records
}

#[tokio::test]
async fn the_record_of_a_hole_survives_further_rewrites() {
    let storage = archive(6).await;
    let (path, headers) = frame_blocks(&storage);
    let mut image = storage.content(&path);
    image[headers[2].position as usize + 70] ^= 0x10;
    storage.put(&path, image);
    start(&storage).finish().await;
    assert_eq!(hole_records(&storage), [(2, 3)]);
    // Each round adds a commit that no block attests, and a torn tail. The start rewrites the newest segment in place.
    for round in 0..3 {
        let mut running = start(&storage);
        running.commit(vec![routine(&origin(1, 1), 10 + round)]).await;
        let copy = storage.clone_disk();
        running.finish().await;
        let (path, headers) = frame_blocks(&copy);
        let end = headers.last().unwrap().end() as usize;
        let mut image = copy.content(&path);
        image[end..end + 80].fill(0xA5);
        copy.put(&path, image);
        let rewritten = start(&copy);
        assert_eq!((rewritten.recovery.rewritten_frames, rewritten.recovery.torn_bytes), (1, 80));
        rewritten.finish().await;
        assert_eq!(hole_records(&copy), [(2, 3)], "round {round}");
    }
}

#[tokio::test]
async fn damage_beside_a_recorded_hole_is_reported_separately() {
    let storage = archive(6).await;
    let (path, headers) = frame_blocks(&storage);
    let spoil = |disk: &MemStorage, block: usize| {
        let mut image = disk.content(&path);
        image[headers[block].position as usize + 70] ^= 0x10;
        disk.put(&path, image);
    };
    spoil(&storage, 2);
    start(&storage).finish().await;
    for (block, expected) in [
        (0, vec![(0..1, false), (2..3, true)]),
        (1, vec![(1..3, false)]),
        (3, vec![(2..4, false)]),
        (4, vec![(2..3, true), (4..5, false)]),
    ] {
        let disk = storage.clone_disk();
        spoil(&disk, block);
        let reported: Vec<_> =
            found(&disk).1.into_iter().map(|damage| (damage.offsets, damage.recorded)).collect();
        assert_eq!(reported, expected, "block {block}");
    }
}
