//! The daemon inside the test's own process, on a disk that the test can hold. While the disk is held, nothing
//! becomes durable.
//!
//! A test can thus create the state of a slow disk on purpose and does not depend on luck.

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use archive::{Access, DiskStorage, Storage, StorageFile};
use config::Config;
use telemetry_aggregator::daemon::{Addresses, Daemon, Outcome};
use telemetry_aggregator::systemd::Manager;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::daemon::merged;
use super::{Archived, LIMIT, archived};

/// A daemon whose disk the test can hold. See the module.
pub struct HeldDaemon {
    addresses: Addresses,
    config: Config,
    disk: Arc<Disk>,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    outcome: mpsc::Receiver<Outcome>,
}

impl HeldDaemon {
    /// Starts the daemon. The disk is free at first.
    pub fn start(config: &str) -> Self {
        Self::start_under(Manager::default(), config)
    }

    /// Like [`Self::start`], with the sockets and variables of a service manager.
    pub fn start_under(manager: Manager, config: &str) -> Self {
        let dir = tempfile::tempdir().expect("no temporary directory");
        let path = dir.path().join("aggregator.toml");
        std::fs::write(&path, merged(dir.path(), config)).expect("the configuration cannot be written");
        let config = Config::load(Some(&path), std::iter::empty()).expect("the test's configuration").config;
        let (disk, own) = (Arc::new(Disk::default()), config.clone());
        let (addresses_tx, addresses_rx) = mpsc::channel();
        let (stop_tx, stop_rx) = oneshot::channel();
        let storage = HeldStorage(Arc::clone(&disk));
        let (outcome_tx, outcome) = mpsc::channel();
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let outcome_of_run = runtime.block_on(async move {
                let daemon =
                    Daemon::start_under(manager, config, storage).await.expect("the daemon does not start");
                addresses_tx.send(daemon.addresses()).expect("the test waits for it");
                daemon.run(async { drop(stop_rx.await) }, std::future::pending()).await
            });
            // A process would end here, with all tasks that are left.
            runtime.shutdown_background();
            let _ = outcome_tx.send(outcome_of_run);
        });
        let addresses = addresses_rx.recv_timeout(LIMIT).expect("the daemon does not start");
        Self { addresses, config: own, disk, dir, stop: Some(stop_tx), running: Some(running), outcome }
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses.ingest
    }

    /// The configuration that the daemon was started with.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// The address for subscribers.
    pub fn feed(&self) -> SocketAddr {
        self.addresses.feed.expect("the feed listens")
    }

    /// The address for operators.
    pub fn http(&self) -> SocketAddr {
        self.addresses.http.expect("HTTP listens")
    }

    /// Holds the disk: from this call on, no sync ends.
    pub fn hold(&self) {
        self.disk.lock().is_held = true;
    }

    /// Makes the disk slow: from this call on, every sync takes `time` longer.
    pub fn slow(&self, time: Duration) {
        self.disk.lock().extra = time;
    }

    /// Waits until a sync has begun. The sync does not end while the disk is held.
    pub fn wait_sync(&self) {
        let waited =
            self.disk.changed.wait_timeout_while(self.disk.lock(), LIMIT, |state| state.waiting == 0);
        let (_state, timeout) = waited.expect("the commit thread panicked");
        assert!(!timeout.timed_out(), "no sync begins");
    }

    /// Lets all syncs end.
    pub fn release(&self) {
        self.disk.lock().is_held = false;
        self.disk.changed.notify_all();
    }

    /// Makes the disk fail: from this call on, every sync fails.
    pub fn fail(&self) {
        self.disk.lock().is_failing = true;
    }

    /// Begins the drain, as SIGTERM does, without waiting for its end.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Drains and ends.
    pub fn stop(&mut self) -> Outcome {
        self.begin_stop();
        self.release();
        self.wait_end()
    }

    /// Waits for the end of the daemon, for any reason. Does not change the state of the disk.
    pub fn wait_end(&mut self) -> Outcome {
        let outcome = self.outcome.recv_timeout(LIMIT).expect("the daemon does not end");
        self.release();
        let running = self.running.take().expect("it was stopped before");
        running.join().expect("the daemon panicked");
        outcome
    }

    /// All frames in the archive.
    pub fn archived(&self) -> Vec<Archived> {
        archived(&self.dir.path().join("data/archive"))
    }
}

impl Drop for HeldDaemon {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.begin_stop();
            self.release();
            drop(running.join());
        }
    }
}

#[derive(Default)]
struct Disk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DiskState {
    is_held: bool,
    is_failing: bool,
    waiting: usize,
    /// The extra time of each sync.
    extra: Duration,
}

impl Disk {
    fn lock(&self) -> std::sync::MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the disk is held. Returns the result of the sync.
    fn pass(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.waiting += 1;
        self.changed.notify_all();
        let waited = self.changed.wait_while(state, |state| state.is_held);
        let mut state = waited.expect("the test's disk");
        state.waiting -= 1;
        let (is_failing, extra) = (state.is_failing, state.extra);
        drop(state);
        // The disk of the test is this slow.
        std::thread::sleep(extra);
        if is_failing { Err(io::Error::other("the test's disk fails")) } else { Ok(()) }
    }
}

struct HeldStorage(Arc<Disk>);

impl Storage for HeldStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DiskStorage.create_dir(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        DiskStorage.lock(dir)
    }

    fn identity(&self, dir: &Path) -> io::Result<(u64, u64)> {
        DiskStorage.identity(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        DiskStorage.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageFile>> {
        let file = DiskStorage.open(path, access)?;
        Ok(Box::new(HeldFile { file, disk: Arc::clone(&self.0) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        DiskStorage.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        DiskStorage.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        DiskStorage.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        DiskStorage.free_bytes(dir)
    }
}

struct HeldFile {
    file: Box<dyn StorageFile>,
    disk: Arc<Disk>,
}

impl StorageFile for HeldFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.file.is_linked()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.file.write_at(bytes, at)
    }

    fn direct_alignment(&self) -> io::Result<usize> {
        self.file.direct_alignment()
    }

    fn bypass_cache(&self) -> io::Result<()> {
        self.file.bypass_cache()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.pass()?;
        self.file.sync_data()
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.allocate(from, to)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
