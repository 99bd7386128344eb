//! Tests of the steps: their order, their failures, and how they end.

use super::*;
use crate::log::shared::Shared;

/// Records each call, and fails the given number of times.
struct Noting {
    name: &'static str,
    seen: Arc<Mutex<Vec<(&'static str, u64)>>>,
    failures: u32,
    stops: bool,
}

impl Step for Noting {
    fn run(&mut self, dir: &Dir, base: u64, shared: &Shared) -> Result<(), StepError> {
        assert!(dir.size(&dir.segment(base)).unwrap() > 0);
        self.seen.lock().unwrap().push((self.name, base));
        if self.stops {
            shared.signal.stop();
        }
        if self.failures > 0 {
            self.failures -= 1;
            return Err(StepError::Other("the step fails".into()));
        }
        Ok(())
    }

    fn consequence(&self) -> &'static str {
        "nothing at all"
    }
}

type Seen = Arc<Mutex<Vec<(&'static str, u64)>>>;

fn steps(failures: u32, stops: bool) -> (Seen, Vec<Box<dyn Step>>) {
    let seen = Seen::default();
    let step = |name, failures| -> Box<dyn Step> {
        Box::new(Noting { name, seen: Arc::clone(&seen), failures, stops })
    };
    let steps = vec![step("index", failures), step("export", 0)];
    (seen, steps)
}

#[tokio::test]
async fn each_sealed_segment_is_worked_on_once_and_the_newest_never() {
    let (seen, steps) = steps(0, false);
    let mut kept = Kept::new(Retention::default(), steps);
    kept.tick();
    assert!(seen.lock().unwrap().is_empty());
    kept.fill(3, 0).await;
    let bases = kept.bases();
    kept.tick();
    kept.tick();
    let expected: Vec<_> = bases[..2].iter().flat_map(|base| [("index", *base), ("export", *base)]).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
    kept.fill(4, 0).await;
    kept.tick();
    assert_eq!(seen.lock().unwrap()[4..], [("index", bases[2]), ("export", bases[2])]);
    kept.running.finish().await;
}

#[tokio::test]
async fn a_segment_is_exported_before_it_expires() {
    let (seen, steps) = steps(0, false);
    let retention = Retention { age: Some(Duration::from_secs(1)), bytes: None };
    let mut kept = Kept::new(retention, steps);
    kept.trust_clock();
    kept.fill(3, 0).await;
    kept.clock.pass(Duration::from_secs(100));
    let bases = kept.bases();
    kept.tick_for(2);
    assert_eq!(kept.bases(), bases[2..]);
    let exported = seen.lock().unwrap().iter().filter(|(name, _)| *name == "export").count();
    assert_eq!(exported, 2);
    kept.running.finish().await;
}

#[tokio::test]
async fn a_failing_step_is_tried_again_after_growing_pauses_and_stops_nothing_else() {
    let (seen, steps) = steps(3, false);
    let mut kept = Kept::new(Retention::default(), steps);
    kept.fill(2, 0).await;
    let stats = kept.running.archive.stats();
    let count = || seen.lock().unwrap().len();
    let mut attempts = Vec::new();
    kept.tick();
    assert_eq!((count(), stats.upkeep_errors.load(Relaxed), stats.upkeep_failing.load(Relaxed)), (2, 1, 1));
    for second in 1..60 {
        let before = count();
        kept.tick();
        if count() > before {
            attempts.push(second);
        }
    }
    // Pauses of 5, 10 and 20 s.
    assert_eq!(attempts, [5, 15, 35]);
    assert_eq!((count(), stats.upkeep_errors.load(Relaxed), stats.upkeep_failing.load(Relaxed)), (5, 3, 0));
    assert_eq!(*kept.running.archive.status().borrow(), crate::Status::Ok);
    kept.commit(0).await;
    kept.running.finish().await;
}

#[tokio::test]
async fn a_failing_step_is_due_again_without_a_new_segment() {
    let (seen, steps) = steps(1, false);
    let mut kept = Kept::new(Retention::default(), steps);
    kept.fill(2, 0).await;
    kept.tick();
    for _ in 0..5 {
        assert_eq!(seen.lock().unwrap().len(), 2, "the export does not wait for the index");
        kept.clock.pass(Duration::from_secs(1));
        kept.maintenance.tick(false);
    }
    assert_eq!(seen.lock().unwrap().len(), 3);
    kept.running.finish().await;
}

#[tokio::test]
async fn a_stop_is_seen_between_two_steps() {
    let (seen, steps) = steps(0, true);
    let mut kept = Kept::new(Retention::default(), steps);
    kept.fill(4, 0).await;
    kept.tick();
    assert_eq!(seen.lock().unwrap().len(), 1);
    kept.running.finish().await;
}

#[tokio::test]
async fn side_files_without_a_segment_are_removed() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.fill(2, 0).await;
    let of = |base: u64, ending: &str| PathBuf::from(format!("/archive/{base:020}{ending}"));
    let orphans = [of(5, ".idx"), of(6, ".idx.tmp"), of(7, ".exported")];
    let others =
        [of(0, ".idx"), of(8, ".csv"), PathBuf::from("/archive/0.idx"), PathBuf::from("/archive/lost/5.idx")];
    for path in orphans.iter().chain(&others) {
        kept.storage.put(path, vec![1]);
    }
    kept.tick();
    let left = kept.storage.paths();
    assert!(orphans.iter().all(|path| !left.contains(path)), "{left:?}");
    assert!(others.iter().all(|path| left.contains(path)), "{left:?}");
    kept.running.finish().await;
}

/// Runs the given closure at its first call.
struct Meddling<F>(Arc<Mutex<Vec<u64>>>, Option<F>);

impl<F: FnOnce() + Send> Step for Meddling<F> {
    fn run(&mut self, _: &Dir, base: u64, _: &Shared) -> Result<(), StepError> {
        self.0.lock().unwrap().push(base);
        if let Some(meddle) = self.1.take() {
            meddle();
        }
        Ok(())
    }

    fn consequence(&self) -> &'static str {
        "nothing at all"
    }
}

#[tokio::test]
async fn a_clock_that_is_set_during_a_long_step_lets_nothing_expire() {
    let retention = Retention { age: Some(Duration::from_secs(100)), bytes: None };
    let mut kept = Kept::new(retention, steps_none());
    kept.trust_clock();
    kept.fill(4, 0).await;
    let (clock, worked_on) = (Arc::clone(&kept.clock), Arc::default());
    kept.maintenance.steps =
        vec![Box::new(Meddling(Arc::clone(&worked_on), Some(move || clock.step(10_000))))];
    let bases = kept.bases();
    kept.tick();
    assert_eq!(worked_on.lock().unwrap().len(), 3);
    assert_eq!(kept.bases(), bases);
    kept.running.finish().await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_noticed_between_two_segments() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.fill(4, 0).await;
    let (storage, worked_on) = (kept.storage.clone(), Arc::default());
    kept.maintenance.steps =
        vec![Box::new(Meddling(Arc::clone(&worked_on), Some(move || storage.replace_dir())))];
    kept.tick();
    assert_eq!(worked_on.lock().unwrap().len(), 1);
    assert!(kept.maintenance.shared.signal.is_stopped());
}

#[tokio::test]
async fn a_stop_cancels_the_index_being_built() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.fill(3, 0).await;
    // Measure the segments first, so that later only the index build opens one.
    kept.tick();
    kept.maintenance.steps = super::super::steps(Vec::new(), 0);
    let shared = Arc::clone(&kept.maintenance.shared);
    kept.storage.set_hook(move |op, path| {
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        if op == crate::storage::mem::Op::Open && is_segment {
            shared.signal.stop();
        }
        None
    });
    kept.tick();
    kept.storage.clear_hook();
    assert!(kept.maintenance.shared.signal.is_stopped());
    assert!(kept.storage.paths().iter().all(|path| !path.to_string_lossy().contains(".idx")));
    assert_eq!(kept.running.archive.stats().upkeep_errors.load(Relaxed), 0);
    kept.running.finish().await;
}

#[tokio::test]
async fn an_index_leaves_the_space_that_the_log_needs() {
    let mut kept = Kept::new(Retention::default(), steps_none());
    kept.fill(3, 0).await;
    let spare_bytes = config().spare_bytes();
    kept.maintenance.steps = super::super::steps(Vec::new(), spare_bytes);
    let indexes = |storage: &MemStorage| {
        storage.paths().iter().filter(|path| path.extension().is_some_and(|it| it == "idx")).count()
    };
    kept.storage.set_capacity(Some(kept.storage.used() + spare_bytes));
    kept.tick();
    assert_eq!(indexes(&kept.storage), 0);
    assert_eq!(kept.running.archive.stats().upkeep_failing.load(Relaxed), 2);
    kept.storage.set_capacity(None);
    kept.clock.pass(Duration::from_secs(10));
    kept.tick();
    assert_eq!(indexes(&kept.storage), 2);
    assert_eq!(kept.running.archive.stats().upkeep_failing.load(Relaxed), 0);
    kept.running.finish().await;
}
