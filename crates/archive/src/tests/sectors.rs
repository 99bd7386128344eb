//! Tests of a power cut between the sectors of one write, and of a lost sector.

use super::new_storage;
use super::recover::frame_blocks;
use super::support::*;
use frame::FramePriority;

const SECTOR: u64 = 512;

/// Each block rewrites the last page. Acknowledged frames stay, whichever part of that write reaches the disk.
#[tokio::test]
async fn frames_that_share_a_page_with_a_torn_block_stay() {
    for seed in 0..200 {
        let disk = new_storage();
        let mut running = start_untended(&disk);
        let origin = origin(1, 1);
        let acknowledged = seed % 9;
        for sequence in 0..acknowledged {
            running.commit(vec![routine(&origin, sequence)]).await;
        }
        disk.cut_power_after(0);
        let torn =
            (0..1 + seed % 40).map(|at| frame(&origin, FramePriority::Routine, acknowledged + at, 200));
        running.append(torn.collect()).await;
        assert!(running.commits.recv().await.is_none());
        drop(running.appender);
        assert!(running.archive.finish().await.is_err());
        disk.crash(Some(seed));
        let running = start(&disk);
        assert!(running.recovery.holes.is_empty(), "seed {seed}: {:?}", running.recovery.holes);
        let next = running.recovery.next_offset;
        assert!(next >= acknowledged, "seed {seed}: {next} of {acknowledged}");
        running.finish().await;
        assert_eq!(sequences(&frames(&disk)), (0..next).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn a_damaged_sector_below_the_synced_offset_is_a_hole_and_not_a_torn_tail() {
    let live = new_storage();
    let mut running = start_untended(&live);
    let origin = origin(1, 1);
    let mut sequence = 0;
    for commit in 0..14 {
        let count = 1 + commit % 5 * 9;
        let batch = (sequence..sequence + count).map(|at| frame(&origin, FramePriority::Routine, at, 200));
        running.commit(batch.collect()).await;
        sequence += count;
    }
    let original = live.clone_disk();
    running.finish().await;
    let (path, headers) = frame_blocks(&original);
    let last = *headers.last().unwrap();
    for sector in 0..last.position / SECTOR {
        let disk = original.clone_disk();
        let bytes = sector * SECTOR..(sector + 1) * SECTOR;
        let mut image = disk.content(&path);
        image[bytes.start as usize..bytes.end as usize].fill(0xA5);
        disk.put(&path, image);
        let hit = headers.iter().filter(|header| header.position < bytes.end && bytes.start < header.end());
        let lost: Vec<u64> = hit.flat_map(|header| header.first_offset..header.next_offset()).collect();
        let running = start(&disk);
        let recovery = running.recovery.clone();
        let holes: Vec<u64> =
            recovery.holes.iter().flat_map(|hole| hole.from_offset..hole.to_offset).collect();
        assert_eq!(holes, lost, "sector {sector}");
        assert_eq!((recovery.torn_bytes, recovery.next_offset), (0, sequence), "sector {sector}");
        running.finish().await;
    }
}
