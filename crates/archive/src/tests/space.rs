//! Tests of the reserve and the gate for routine frames, on the fake disk.

use std::sync::Arc;

use tokio::sync::watch;

use super::new_storage;
use super::support::*;
use crate::storage::mem::{MemStorage, Op};
use crate::{Status, log_bytes_max};
use frame::{Frame, FramePriority, Origin, batch_of};

/// Imitates the fan-in: sums the charges, and accepts routine frames only while the sum stays within the limit.
pub(in crate::tests) struct FanIn {
    running: Running,
    limit: watch::Receiver<u64>,
    status: watch::Receiver<Status>,
    log_bytes_max: u64,
    passed: u64,
    origin: Arc<Origin>,
}

impl FanIn {
    pub(in crate::tests) fn new(running: Running) -> Self {
        Self {
            limit: running.archive.routine_limit(),
            status: running.archive.status(),
            running,
            log_bytes_max: 0,
            passed: 0,
            origin: origin(1, 1),
        }
    }

    fn next(&self, priority: FramePriority) -> Frame {
        frame(&self.origin, priority, self.passed, 200)
    }

    async fn pass(&mut self, frame: Frame) {
        self.log_bytes_max += log_bytes_max(&frame.origin, frame.payload.len());
        self.passed += 1;
        self.running.append(vec![frame]).await;
    }

    fn charge_of_next(&self) -> u64 {
        let next = self.next(FramePriority::Routine);
        log_bytes_max(&next.origin, next.payload.len())
    }

    fn gate_is_open(&self) -> bool {
        self.log_bytes_max + self.charge_of_next() <= *self.limit.borrow()
    }

    async fn settle(&self) {
        let mut watermark = self.running.archive.watermark();
        watermark.wait_for(|offset| *offset == self.passed).await.unwrap();
    }

    /// Passes routine frames, several in flight at a time, until the gate stays closed with nothing in flight.
    async fn fill(&mut self) {
        loop {
            while self.gate_is_open() {
                let frame = self.next(FramePriority::Routine);
                self.pass(frame).await;
            }
            self.settle().await;
            // The limit that follows from a commit may arrive after its watermark, so the test waits for it.
            let waits = tokio::time::Duration::from_millis(300);
            let open = self.limit.clone();
            let log_bytes_max = self.log_bytes_max + self.charge_of_next();
            let mut open = open;
            let opened = tokio::time::timeout(waits, open.wait_for(|limit| log_bytes_max <= *limit)).await;
            if opened.is_err() {
                return;
            }
        }
    }

    async fn degraded(&mut self) -> String {
        let status = self.status.wait_for(|status| matches!(status, Status::Degraded { .. })).await;
        match status.unwrap().clone() {
            Status::Degraded { reason } => reason.to_string(),
            status => panic!("{status:?}"),
        }
    }

    async fn healthy(&mut self) {
        self.status.wait_for(|status| *status == Status::Ok).await.unwrap();
    }

    async fn opened(&mut self) {
        let log_bytes_max = self.log_bytes_max + self.charge_of_next();
        self.limit.wait_for(|limit| log_bytes_max <= *limit).await.unwrap();
    }
}

/// Fills the disk, sends emergencies through the closed gate, makes space, continues, and counts the frames.
pub(in crate::tests) async fn full_and_back(
    mut fan_in: FanIn,
    emergencies: u64,
    make_space: impl FnOnce(),
) -> u64 {
    assert_eq!(*fan_in.status.borrow(), Status::Ok);
    assert!(fan_in.gate_is_open(), "the limit is published before open returns");
    fan_in.fill().await;
    let reason = fan_in.degraded().await;
    assert!(reason.contains("bytes free") && reason.contains("free space on this file system"), "{reason}");
    for _ in 0..emergencies {
        let frame = fan_in.next(FramePriority::Emergency);
        fan_in.pass(frame).await;
        fan_in.settle().await;
        assert!(!fan_in.gate_is_open(), "emergencies do not open the gate for routine");
    }
    make_space();
    // Nothing is appended here: the gate must open on an idle log.
    fan_in.opened().await;
    fan_in.healthy().await;
    for _ in 0..10 {
        assert!(fan_in.gate_is_open());
        let frame = fan_in.next(FramePriority::Routine);
        fan_in.pass(frame).await;
        fan_in.settle().await;
    }
    let passed = fan_in.passed;
    assert_eq!(fan_in.running.finish().await.frames, passed);
    passed
}

#[tokio::test]
async fn a_full_disk_closes_the_gate_and_space_opens_it_again() {
    let storage = new_storage();
    storage.set_capacity(Some(1 << 20));
    let disk = storage.clone();
    let fan_in = FanIn::new(start(&storage));
    let passed = full_and_back(fan_in, 100, move || disk.set_capacity(Some(4 << 20))).await;
    assert_eq!(sequences(&frames(&storage)), (0..passed).collect::<Vec<_>>());
}

#[tokio::test]
async fn batches_past_the_gate_fit_however_they_are_divided() {
    // Whole batches in flight and emergencies between them, on disks of many sizes. Every frame that passed must be
    // written.
    for capacity in (300 << 10..700 << 10).step_by(37_123) {
        let storage = new_storage();
        storage.set_capacity(Some(capacity));
        let mut fan_in = FanIn::new(start(&storage));
        let mut stalled = 0;
        while stalled < 3 {
            let mut batch = Vec::new();
            while fan_in.gate_is_open() && batch.len() < 64 {
                let priority = FramePriority::ALL[usize::from(!fan_in.passed.is_multiple_of(50))];
                let frame = fan_in.next(priority);
                fan_in.log_bytes_max += log_bytes_max(&frame.origin, frame.payload.len());
                fan_in.passed += 1;
                batch.push(frame);
            }
            stalled = if batch.is_empty() { stalled + 1 } else { 0 };
            if batch.is_empty() {
                fan_in.settle().await;
                tokio::task::yield_now().await;
                if *fan_in.status.borrow() == Status::Ok {
                    fan_in.limit.changed().await.unwrap();
                    stalled = 0;
                }
            } else {
                fan_in.running.append(batch).await;
            }
        }
        // Every frame that passed is durable although the disk is full.
        fan_in.settle().await;
        assert_eq!(fan_in.running.archive.stats().space_waits.load(std::sync::atomic::Ordering::Relaxed), 0);
        assert!(storage.used() <= capacity);
        let passed = fan_in.passed;
        fan_in.running.finish().await;
        assert_eq!(frames(&storage).len() as u64, passed);
    }
}

#[tokio::test]
async fn emergencies_beyond_the_reserve_are_kept_until_there_is_space() {
    let storage = new_storage();
    storage.set_capacity(Some(400 << 10));
    let mut fan_in = FanIn::new(start(&storage));
    fan_in.fill().await;
    // Hand over emergencies until the archive cannot write them. Then the appender waits.
    let stats = fan_in.running.archive.stats();
    let waits = || stats.space_waits.load(std::sync::atomic::Ordering::Relaxed);
    let appender = fan_in.running.appender.clone();
    let mut sent = 0;
    loop {
        let frame = frame(&fan_in.origin, FramePriority::Emergency, fan_in.passed + sent, 256);
        let append = appender.append(batch_of([frame]));
        match tokio::time::timeout(tokio::time::Duration::from_millis(500), append).await {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
        sent += 1;
    }
    assert!(waits() > 0);
    let reason = fan_in.degraded().await;
    assert!(reason.contains("the reserve is in use"), "{reason}");
    storage.set_capacity(Some(4 << 20));
    fan_in.passed += sent;
    fan_in.settle().await;
    fan_in.healthy().await;
    fan_in.opened().await;
    let passed = fan_in.passed;
    drop(appender);
    fan_in.running.finish().await;
    assert_eq!(sequences(&frames(&storage)), (0..passed).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_space_on_a_write_is_waited_out() {
    let storage = new_storage();
    let mut running = start(&storage);
    let a = origin(1, 1);
    running.commit(vec![routine(&a, 0)]).await;
    storage.set_hook(|op, _| (op == Op::Write).then(|| std::io::ErrorKind::StorageFull.into()));
    running.append(vec![routine(&a, 1)]).await;
    let mut status = running.archive.status();
    status.wait_for(|status| matches!(status, Status::Degraded { .. })).await.unwrap();
    assert!(running.commits.try_recv().is_err());
    storage.clear_hook();
    assert_eq!(running.commits.recv().await.unwrap().next_offset, 2);
    status.wait_for(|status| *status == Status::Ok).await.unwrap();
    running.finish().await;
    assert_eq!(sequences(&frames(&storage)), [0, 1]);
}

#[tokio::test]
async fn short_writes_are_completed() {
    let storage = new_storage();
    storage.set_short_writes(true);
    let mut running = start(&storage);
    for sequence in 0..10 {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    running.finish().await;
    assert_eq!(frames(&storage).len(), 10);
}

#[tokio::test]
async fn without_fallocate_the_archive_relies_on_the_free_space() {
    let storage = new_storage();
    storage.set_no_allocate();
    storage.set_capacity(Some(1 << 20));
    let disk = storage.clone();
    let fan_in = FanIn::new(start(&storage));
    let passed = full_and_back(fan_in, 100, move || disk.set_capacity(Some(4 << 20))).await;
    assert_eq!(sequences(&frames(&storage)), (0..passed).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_archive_opens_on_a_full_disk() {
    let storage = new_storage();
    let mut running = start(&storage);
    running.commit(vec![routine(&origin(1, 1), 0)]).await;
    running.finish().await;
    // The disk has space for the reserve, but not one byte more.
    storage.set_capacity(Some(storage.used()));
    let mut running = start(&storage);
    assert!(matches!(*running.archive.status().borrow(), Status::Degraded { .. }));
    running.commit(vec![emergency(&origin(1, 1), 1)]).await;
    running.finish().await;
    assert_eq!(sequences(&frames(&storage)), [0, 1]);
}

/// Commits `count` emergencies, more than a segment holds, on a disk that fits them only with the space of the reserve.
///
/// `refused` is the operation that fails on the reserve.
async fn emergencies_beyond_a_segment(storage: &MemStorage, count: u64, refused: Op) {
    storage.set_capacity(Some(config().segment_bytes + config().reserve_bytes + (16 << 10)));
    let mut running = start(storage);
    storage.set_hook(move |op, path| {
        (op == refused && path.ends_with("reserve")).then(|| std::io::ErrorKind::StorageFull.into())
    });
    let origin = origin(1, 1);
    for sequence in 0..count {
        running.append(vec![frame(&origin, FramePriority::Emergency, sequence, 200)]).await;
        let seen = tokio::time::timeout(tokio::time::Duration::from_secs(10), running.commits.recv());
        assert!(seen.await.is_ok(), "emergency {sequence} waits while the reserve lies idle");
    }
    running.finish().await;
}

#[tokio::test]
async fn a_reserve_that_cannot_become_a_segment_gives_its_space_to_the_current_one() {
    for refused in [Op::Write, Op::Rename] {
        let storage = new_storage();
        emergencies_beyond_a_segment(&storage, 800, refused).await;
        assert_eq!(sequences(&frames(&storage)), (0..800).collect::<Vec<_>>());
        let segment = storage.paths().into_iter().find(|path| path.extension().is_some()).unwrap();
        assert!(storage.content(&segment).len() as u64 > config().segment_bytes);
    }
}
