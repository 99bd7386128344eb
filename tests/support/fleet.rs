//! The simulator in the background, and a check that the archive holds its frames.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use archive::{Filter, Item, Reader};
use frame::Frame;
use sim::{Counts, Plan, Progress, Report};
use tokio::sync::watch;

use super::wait::{LIMIT, wait_within};

/// The sources of a simulator that runs while the test runs.
pub struct Fleet {
    sources: u64,
    progress: Arc<Progress>,
    stop_tx: watch::Sender<bool>,
    thread: JoinHandle<Report>,
}

impl Fleet {
    /// Starts all sources of `plan`.
    pub fn start(plan: Plan) -> Self {
        let progress = Arc::new(Progress::default());
        let sources = u64::from(plan.satellites) + u64::from(plan.replays);
        let (stop_tx, stop) = watch::channel(false);
        let thread = std::thread::spawn({
            let progress = Arc::clone(&progress);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("no runtime for the simulator").block_on(sim::run(plan, stop, progress))
            }
        });
        Self { sources, progress, stop_tx, thread }
    }

    /// The number of frames sent and acknowledged so far.
    pub fn counts(&self) -> Counts {
        self.progress.counts()
    }

    /// Waits until `more` frames are acknowledged than now.
    #[track_caller]
    pub fn wait_acked(&self, more: u64) {
        self.wait_acked_in_all(self.counts().acked + more, LIMIT);
    }

    /// Waits until `frames` frames are acknowledged in all, for `limit` at most.
    #[track_caller]
    pub fn wait_acked_in_all(&self, frames: u64, limit: Duration) {
        self.wait_counts(&format!("{frames} acknowledged frames"), limit, |counts| counts.acked >= frames);
    }

    /// Waits until every source is connected.
    #[track_caller]
    pub fn wait_connected(&self) {
        self.wait_counts("a connected fleet", LIMIT, |counts| counts.connected >= self.sources);
    }

    #[track_caller]
    fn wait_counts(&self, what: &str, limit: Duration, is_met: impl Fn(&Counts) -> bool) {
        let look = || Some(self.counts()).filter(&is_met).ok_or_else(|| format!("{:?}", self.counts()));
        wait_within(limit, what, look);
    }

    /// Waits for the end of all feeds.
    pub fn wait(self) -> Report {
        self.thread.join().expect("the simulator panicked")
    }

    /// Like [`Self::stop`], once every source is connected. A source without connection at the end of its feed would
    /// report a failure.
    pub fn stop_connected(self) -> Report {
        self.wait_connected();
        self.stop()
    }

    /// Sends no new frames. Waits until every sent frame is acknowledged, or the plan's linger time is over.
    pub fn stop(self) -> Report {
        self.stop_tx.send_replace(true);
        self.wait()
    }
}

/// Compares the frames of an archive with the frames of a fleet: each exactly once, in the order of its lane, without
/// a gap, payload intact.
pub struct FleetLog {
    plan: Plan,
    /// Lowest sequence that may come next, per source and lane.
    next: Vec<[u64; 2]>,
    epochs: Vec<Option<u64>>,
    frames: u64,
}

impl FleetLog {
    /// Expects the sources of `plan`, each in a single epoch.
    pub fn new(plan: &Plan) -> Self {
        let sources = plan.sources() as usize;
        Self { plan: plan.clone(), next: vec![[0; 2]; sources], epochs: vec![None; sources], frames: 0 }
    }

    /// Checks the next frame of the archive. Returns `false` if the frame belongs to no source of the plan.
    pub fn take(&mut self, frame: &Frame) -> bool {
        let id = frame.source_id;
        if id >= self.plan.sources() {
            return false;
        }
        let stream = self.plan.stream(id);
        assert_eq!(frame.source_kind, stream.source_kind, "kind of {frame:?}");
        assert_eq!(frame.origin.stream, stream, "stream of {frame:?}");
        let epoch = *self.epochs[id as usize].get_or_insert(frame.origin.epoch);
        assert_eq!(frame.origin.epoch, epoch, "epoch of {frame:?}");

        let lane = frame.priority as usize;
        let cursor = &mut self.next[id as usize][lane];
        let Plan { seed, emergency_ratio, payload_bytes, .. } = self.plan;
        let is_of_lane =
            |sequence: &u64| sim::priority(seed, id, *sequence, emergency_ratio) as usize == lane;
        let expected = (*cursor..).find(is_of_lane).expect("some frame is of the lane");
        assert_eq!(
            frame.sequence, expected,
            "source {id} lane {lane}: a frame is missing, doubled or out of order"
        );
        let payload = sim::payload(seed, id, expected, frame.priority, payload_bytes);
        assert_eq!(frame.payload, payload, "payload of {frame:?}");
        *cursor = expected + 1;
        self.frames += 1;
        true
    }

    /// The number of frames checked so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Reads the archive in `dir` and returns the number of the plan's frames. Passes the other frames to `other`.
    pub fn read(plan: &Plan, dir: &Path, mut other: impl FnMut(&Frame)) -> u64 {
        let mut log = Self::new(plan);
        for_each_frame(dir, |frame| {
            if !log.take(frame) {
                other(frame);
            }
        });
        log.frames()
    }
}

/// Passes all frames of the archive in `dir` to `each`, one by one, so that memory does not grow with their number.
pub fn for_each_frame(dir: &Path, mut each: impl FnMut(&Frame)) {
    for (expected, item) in Reader::open(dir, Filter::default()).expect("no archive to read").enumerate() {
        match item.expect("reading the archive fails") {
            Item::Frame(stored) => {
                assert_eq!(stored.offset, expected as u64, "the offsets have a hole");
                each(&stored.frame);
            }
            other => panic!("the archive is not whole: {other:?}"),
        }
    }
}
