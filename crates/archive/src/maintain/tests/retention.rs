//! Tests of expiry: which segments expire, which stay, and what is published.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::format::names::SIDE_FILE_SUFFIXES;
use crate::storage::mem::Op;
use crate::tests::support::{frames, routine, sequences, start, start_on};
use crate::{Config, DiskStorage, OpenError, open};
use frame::Lanes;

fn by_age(seconds: u64) -> Retention {
    Retention { age: Some(Duration::from_secs(seconds)), bytes: None }
}

fn by_bytes(bytes: u64) -> Retention {
    Retention { age: None, bytes: Some(bytes) }
}

#[tokio::test]
async fn without_limits_nothing_expires() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.fill(4, 0).await;
    kept.clock.pass(Duration::from_secs(1 << 32));
    kept.tick();
    assert_eq!(kept.segments().len(), 4);
    assert_eq!(kept.first_offset(), 0);
    kept.running.finish().await;
}

/// The commit thread begins the second segment after maintenance has listed the first one alone.
#[tokio::test]
async fn a_segment_that_is_sealed_behind_the_list_stays_the_oldest() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.maintenance.list().unwrap();
    kept.fill(2, 0).await;
    kept.maintenance.publish();
    assert_eq!(kept.first_offset(), 0);
    kept.tick();
    assert_eq!(kept.first_offset(), 0);
    kept.running.finish().await;
}

#[tokio::test]
async fn above_the_size_limit_the_oldest_segments_are_removed_with_their_side_files() {
    let mut kept = Kept::new(by_bytes(3 * SEGMENT_BYTES), steps_none());
    kept.fill(6, 0).await;
    let bases = kept.bases();
    for base in &bases {
        kept.storage.put(&kept.maintenance.dir.side_file(*base, ".idx"), vec![1; 100]);
        kept.storage.put(&kept.maintenance.dir.side_file(*base, ".exported"), vec![]);
    }
    kept.tick();
    let left = kept.bases();
    assert!(bases.ends_with(&left) && left.len() < bases.len() && left.len() > 1, "{left:?} of {bases:?}");
    let stats = kept.running.archive.stats();
    let used: usize = kept
        .storage
        .paths()
        .iter()
        .filter(|path| !path.ends_with("reserve"))
        .map(|path| kept.storage.content(path).len())
        .sum();
    assert!(used as u64 <= 3 * SEGMENT_BYTES, "{used} bytes are kept");
    assert_eq!(
        stats.segment_bytes.load(Relaxed),
        used as u64 - 100,
        "all but the index of the segment being written"
    );
    assert_eq!(stats.segments.load(Relaxed), left.len() as u64);
    assert_eq!(stats.expired_segments.load(Relaxed), (bases.len() - left.len()) as u64);
    assert_eq!(stats.expired_frames.load(Relaxed), left[0]);
    assert_eq!(kept.first_offset(), left[0]);
    for base in bases.iter().filter(|base| **base < left[0]) {
        let side_file = |ending: &&str| kept.maintenance.dir.side_file(*base, ending);
        assert!(SIDE_FILE_SUFFIXES.iter().map(side_file).all(|path| !kept.storage.paths().contains(&path)));
    }
    assert_eq!(sequences(&frames(&kept.storage)), (left[0]..kept.written).collect::<Vec<_>>());
    kept.running.finish().await;
}

#[tokio::test]
async fn the_size_holds_while_the_newest_segment_grows() {
    let limit = 2 * SEGMENT_BYTES + SEGMENT_BYTES / 2;
    let mut kept = Kept::new(by_bytes(limit), steps_none());
    kept.fill(3, 0).await;
    kept.tick();
    for _ in 0..100 {
        kept.commit(0).await;
        // The size limit applies even if no segment was sealed.
        let is_sealed = kept.maintenance.shared.signal.wait(Duration::ZERO);
        kept.maintenance.tick(is_sealed);
        let total: u64 = kept.segments().iter().map(|path| kept.storage.content(path).len() as u64).sum();
        assert!(total <= limit + SEGMENT_BYTES / 4, "{total} bytes");
    }
    assert!(kept.first_offset() > 0);
    kept.running.finish().await;
}

#[tokio::test]
async fn a_segment_expires_when_its_youngest_frame_does() {
    let mut kept = Kept::new(by_age(100), steps_none());
    kept.trust_clock();
    kept.fill(2, 1_000).await;
    // One young frame among old ones keeps the segment.
    kept.commit(900).await;
    kept.commit(1_500).await;
    kept.fill(3, 900).await;
    let bases = kept.bases();
    kept.clock.pass(Duration::from_secs(1_099));
    kept.tick();
    assert_eq!(kept.bases(), bases, "100 s is not more than 100 s");
    kept.tick();
    assert_eq!(kept.bases(), bases[1..]);
    assert_eq!(kept.first_offset(), bases[1]);
    kept.clock.pass(Duration::from_secs(500));
    kept.tick();
    assert_eq!(kept.bases(), bases[2..]);
    kept.running.finish().await;
}

#[tokio::test]
async fn no_segment_is_removed_before_an_older_one() {
    let mut kept = Kept::new(by_age(100), steps_none());
    kept.trust_clock();
    // The clock went backwards before the next fill.
    kept.fill(2, 5_000).await;
    kept.fill(4, 1_000).await;
    let bases = kept.bases();
    kept.clock.pass(Duration::from_secs(4_000));
    kept.tick();
    assert_eq!(kept.bases(), bases, "the oldest is too young yet");
    assert_eq!(frames(&kept.storage).len() as u64, kept.written, "and the log is readable");
    kept.clock.pass(Duration::from_secs(1_200));
    kept.tick_for(3);
    assert_eq!(kept.bases(), bases[3..]);
    kept.running.finish().await;
}

#[tokio::test]
async fn after_a_clock_step_nothing_expires_by_age_for_an_hour() {
    for by_s in [3_000, -3_000] {
        let retention = Retention { age: Some(Duration::from_secs(100)), bytes: Some(4 * SEGMENT_BYTES) };
        let mut kept = Kept::new(retention, steps_none());
        kept.clock.pass(Duration::from_secs(10_000));
        kept.trust_clock();
        kept.fill(3, 0).await;
        let bases = kept.bases();
        kept.clock.step(by_s);
        kept.tick();
        assert_eq!(kept.bases(), bases);
        let hold = kept.running.archive.age_holds().current().unwrap();
        assert!(hold.reason.contains(&format!("stepped by {by_s} s")), "{}", hold.reason);
        kept.clock.step(-by_s);
        kept.tick();
        assert_eq!(kept.bases(), bases, "what was measured in between cannot be trusted either");
        kept.fill(6, 0).await;
        kept.tick();
        assert!(kept.bases().len() < 6, "the size holds all the same");
        let left = kept.bases().len();
        kept.clock.pass(Duration::from_secs(3_597));
        kept.tick();
        assert_eq!(kept.bases().len(), left, "a second is lacking");
        kept.tick();
        assert_eq!(kept.bases().len(), left - 1);
        assert_eq!(kept.running.archive.age_holds().current(), None);
        kept.running.finish().await;
    }
}

const DAY_S: u64 = 86_400;

#[tokio::test]
async fn a_start_with_the_clock_far_ahead_removes_nothing_for_a_day_and_then_one_segment_a_minute() {
    let mut kept = Kept::new(by_age(30 * DAY_S), steps_none());
    kept.fill(5, 0).await;
    let Kept { storage, running, clock, written, .. } = kept;
    running.finish().await;
    clock.pass(Duration::from_secs(60));
    clock.step(60 * DAY_S as i64);
    let mut kept = Kept::at(storage, by_age(30 * DAY_S), steps_none(), clock);
    assert_eq!(kept.written, written);
    let bases = kept.bases();
    // Frames of this time come from the wrong clock. They are no evidence that the clock is right.
    kept.commit(60 * DAY_S as i64 + 60).await;
    for _ in 0..24 {
        kept.tick();
        assert_eq!(kept.bases()[..5], bases[..5]);
        let hold = kept.running.archive.age_holds().current().unwrap();
        assert!(hold.reason.contains("is 1440 h ahead of the newest time known"), "{}", hold.reason);
        assert!(hold.until_ns.unwrap() > kept.clock.wall_ns());
        kept.clock.pass(Duration::from_secs(3_599));
    }
    kept.tick();
    assert_eq!(kept.bases()[..4], bases[1..5], "one went");
    kept.clock.pass(Duration::from_secs(58));
    kept.tick();
    assert_eq!(kept.bases()[..4], bases[1..5], "and no other within the minute");
    kept.tick();
    assert_eq!(kept.bases()[..3], bases[2..5]);
    kept.clock.step(-60 * DAY_S as i64);
    kept.clock.pass(Duration::from_secs(70));
    kept.tick();
    assert_eq!(kept.bases()[..3], bases[2..5], "somebody has set the clock right in time");
    kept.running.finish().await;
}

#[tokio::test]
async fn a_confirmation_by_an_operator_ends_the_hold_at_once() {
    let mut kept = Kept::new(by_age(100), steps_none());
    kept.fill(3, 0).await;
    let bases = kept.bases();
    kept.clock.pass(Duration::from_secs(1_000));
    kept.tick();
    assert_eq!(kept.bases(), bases, "the daemon has just started");
    kept.maintenance.shared.signal.wait(Duration::ZERO);
    kept.running.archive.tuning().trust_clock().unwrap();
    let has_news = kept.maintenance.shared.signal.wait(Duration::from_secs(86_400));
    kept.maintenance.tick(has_news);
    assert_eq!(kept.bases(), bases[1..]);
    kept.running.finish().await;
}

#[tokio::test]
async fn frames_with_implausible_times_are_as_young_as_the_frames_behind_them() {
    let mut kept = Kept::new(by_age(100), steps_none());
    kept.trust_clock();
    kept.fill(2, 1_000).await;
    // One segment of the year 1970, and one a century ahead.
    kept.fill(3, -(EPOCH_NS / 1_000_000_000)).await;
    kept.fill(4, 100 * 365 * DAY_S as i64).await;
    kept.fill(5, 2_000).await;
    // Then the clock went backwards: no segment is younger than an earlier one.
    kept.fill(6, 1_500).await;
    let bases = kept.bases();
    kept.clock.pass(Duration::from_secs(1_110));
    kept.tick_for(3);
    assert_eq!(kept.bases(), bases[1..], "the first is old, and none of the others");
    kept.clock.pass(Duration::from_secs(800));
    kept.tick_for(7);
    assert_eq!(kept.bases(), bases[5..]);
    kept.running.finish().await;
}

#[tokio::test]
async fn the_newest_stays_and_every_stream_resumes_where_it_stood() {
    let mut kept = Kept::new(by_age(100), steps_none());
    // Stream 2 sends only once.
    let once = vec![routine(&origin(2, 9), 77)];
    kept.running.append(once).await;
    kept.running.commits.recv().await.unwrap();
    kept.written += 1;
    kept.trust_clock();
    kept.fill(4, 0).await;
    let positions = || [(2, 9, Lanes::new(0, 78)), (1, 1, Lanes::new(0, kept.written))];
    let expected = positions();
    kept.clock.pass(Duration::from_secs(1_000));
    kept.tick_for(3);
    assert_eq!(kept.bases().len(), 1);
    assert!(frames(&kept.storage).iter().all(|stored| stored.frame.source_id == 1), "its frames are gone");
    let first = kept.first_offset();
    let storage = kept.storage.clone();
    kept.running.finish().await;
    let copy = storage.clone_disk();
    copy.crash(None);
    for disk in [storage, copy] {
        let running = start(&disk);
        let recovery = &running.recovery;
        assert_eq!((recovery.first_offset, recovery.next_offset), (first, kept.written));
        assert_eq!(*running.archive.first_offset().borrow(), first);
        for (source, epoch, next) in expected {
            let mut positions = recovery.positions.iter();
            let (_, position) = positions.find(|(stream, _)| stream.source_id == source).unwrap();
            assert_eq!((position.epoch, position.next), (epoch, next));
        }
        running.finish().await;
    }
}

#[tokio::test]
async fn the_directory_is_synced_after_each_segment_that_goes() {
    let mut kept = Kept::new(by_age(100), steps_none());
    kept.trust_clock();
    kept.fill(4, 0).await;
    let bases = kept.bases();
    kept.clock.pass(Duration::from_secs(1_000));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let ops = Arc::clone(&seen);
    kept.storage.set_hook(move |op, path| {
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        if op == Op::SyncDir || op == Op::Unlink && is_segment {
            ops.lock().unwrap().push(op);
        }
        None
    });
    kept.tick_for(bases.len() - 1);
    kept.storage.clear_hook();
    assert_eq!(*seen.lock().unwrap(), [Op::Unlink, Op::SyncDir].repeat(bases.len() - 1));
    kept.running.finish().await;
}

#[tokio::test]
async fn damage_hides_the_age_of_a_block_but_not_of_its_segment() {
    let mut kept = Kept::new(by_age(100), steps_none());
    kept.trust_clock();
    kept.commit(500).await;
    kept.fill(2, 1_000).await;
    kept.fill(3, 2_000).await;
    let bases = kept.bases();
    // Damage to a header hides where the next block begins.
    let image = kept.storage.content(&kept.maintenance.dir.segment(bases[0]));
    let mut headers = (0..image.len()).filter(|at| image[*at..].starts_with(b"TMAB"));
    let header = headers.nth(2).unwrap();
    // The first segment loses a block. The second is fully unreadable, so it expires with the third.
    for (base, damage) in [(bases[0], header..header + 64), (bases[1], 0..usize::MAX)] {
        let path = kept.maintenance.dir.segment(base);
        let mut image = kept.storage.content(&path);
        let end = damage.end.min(image.len());
        image[damage.start..end].fill(0xA5);
        kept.storage.put(&path, image);
    }
    kept.clock.pass(Duration::from_secs(1_050));
    kept.tick();
    assert_eq!(kept.bases(), bases, "what is old in the first does not matter");
    kept.clock.pass(Duration::from_secs(150));
    kept.tick();
    assert_eq!(kept.bases(), bases[1..]);
    kept.fill(4, 3_000).await;
    kept.clock.pass(Duration::from_secs(1_000));
    kept.tick();
    let left = kept.bases();
    assert_eq!(left[0], bases[1], "the third has young frames");
    kept.clock.pass(Duration::from_secs(1_000));
    kept.tick_for(3);
    assert_eq!(kept.bases().len(), 1);
    kept.running.finish().await;
}

#[tokio::test]
async fn the_maintenance_thread_expires_segments() {
    let temp = tempfile::tempdir().unwrap();
    let bytes = config().retention_bytes_min();
    let config = Config { dir: temp.path().join("archive"), retention: by_bytes(bytes), ..config() };
    let mut running = start_on(config.clone(), DiskStorage);
    let mut first_offset = running.archive.first_offset();
    let origin = origin(1, 1);
    let mut sequence = 0;
    while !first_offset.has_changed().unwrap() {
        let batch = (sequence..sequence + 40).map(|sequence| frame(&origin, Routine, sequence, 200));
        running.commit(batch.collect()).await;
        sequence += 40;
    }
    assert!(*first_offset.borrow_and_update() > 0);
    running.finish().await;
    let running = start_on(config, DiskStorage);
    assert_eq!(running.recovery.next_offset, sequence);
    assert_eq!(running.recovery.positions[0].1.next, Lanes::new(0, sequence));
    running.finish().await;
}

#[test]
fn a_size_limit_below_two_segments_is_refused() {
    let bytes = config().retention_bytes_min() - 1;
    let config = Config { retention: by_bytes(bytes), ..config() };
    let refused = open(config, MemStorage::default(), |_: &crate::Commit<'_>| {});
    let Err(OpenError::Config(error)) = refused else {
        panic!("opened");
    };
    assert!(error.to_string().contains("at least 524288 are needed for two segments"), "{error}");
}

#[tokio::test]
async fn a_limit_that_is_set_later_is_seen_at_once() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.trust_clock();
    kept.fill(4, 0).await;
    kept.tick();
    // Consume the notice about the segments sealed so far.
    kept.maintenance.shared.signal.wait(Duration::ZERO);
    kept.running.archive.tuning().set(&Config { retention: by_age(100), ..config() });
    kept.clock.pass(Duration::from_secs(101));
    // Without the new limit, maintenance would sleep for a day.
    let has_news = kept.maintenance.shared.signal.wait(Duration::from_secs(86_400));
    assert!(has_news);
    kept.maintenance.tick(has_news);
    assert_eq!(kept.segments().len(), 3, "the oldest goes at once");
    kept.clock.pass(Duration::from_secs(59));
    kept.tick_for(2);
    assert_eq!(kept.segments().len(), 1, "only the one being written stays");
    assert!(!kept.maintenance.shared.signal.wait(Duration::ZERO), "it was seen");

    kept.running.archive.tuning().set(&Config { retention: Retention::default(), ..config() });
    kept.fill(3, 0).await;
    kept.tick();
    assert_eq!(kept.segments().len(), 3, "and is no more");
    kept.running.finish().await;
}

#[tokio::test]
async fn what_a_reader_needs_stays_until_it_needs_it_no_more() {
    let mut kept = Kept::new(Retention { bytes: Some(SEGMENT_BYTES), ..by_age(100) }, steps_none());
    let needed = Arc::new(AtomicU64::new(0));
    kept.running.archive.tuning().hold({
        let needed = Arc::clone(&needed);
        move || needed.load(Relaxed)
    });
    kept.trust_clock();
    kept.fill(4, 0).await;
    kept.clock.pass(Duration::from_secs(101));
    kept.tick();
    let bases = kept.bases();
    assert_eq!(bases.len(), 4);
    assert!(!kept.maintenance.is_over_size(), "no pass is due each second");
    needed.store(bases[2] - 1, Relaxed);
    kept.tick();
    assert_eq!(kept.bases(), bases[1..], "the last frame of the second segment is needed");
    needed.store(bases[2], Relaxed);
    kept.tick();
    assert_eq!(kept.bases(), bases[2..]);
    needed.store(u64::MAX, Relaxed);
    kept.tick();
    assert_eq!(kept.bases(), bases[3..]);
    kept.running.finish().await;
}
