//! The daemon: wires the parts together, and takes them down in the order in which the data flows.
//!
//! ```text
//! listener -> router -> sessions -> fan-in, processor -> archive
//!    ^                        |                                      |
//!    +------ shutdown --------+        commits: positions, books <---+
//! ```
//!
//! Only this module knows all parts. `start` builds them, [`Daemon::run`] waits for a reason to end, `drain`
//! ends them. [`Settings`] holds what may change in between.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::systemd::{Manager, Notifier, Watchdog};
use actor::{ActorHandle, Tasks};
use archive::{self, Archive, DiskStorage, Storage};
use catalog::{CatalogError, CatalogStore};
use config::{Config, ConfigError};
use equipment::links::Links;
use equipment::outputs::Outputs;
use frame::liveness::Liveness;
use ingest::pipeline::{Counters, Fanout, PipelineStats, Sources};
use ingest::{Books, Router};
use web::Http;

mod drain;
mod feed_side;
mod listeners;
mod output;
pub mod ready_file;
mod settings;
pub mod signals;
mod start;
mod status;
pub mod summary;

use feed_side::Feed;

pub use drain::Outcome;
pub use settings::Settings;

/// The listeners' bound addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Sources connect here.
    pub ingest: SocketAddr,
    /// Subscribers connect here.
    pub feed: Option<SocketAddr>,
    /// Operators connect here.
    pub http: Option<SocketAddr>,
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The daemon cannot listen on the address.
    #[error("cannot listen on {address} ({key})")]
    Listen {
        /// The key that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// `catalog.file` is not a catalog.
    #[error("{0} (catalog.file)")]
    Catalog(#[from] CatalogError),
    /// The configuration does not fit the addresses of the sockets that were handed over.
    #[error("the sockets that were handed over do not fit the configuration")]
    Sockets(#[source] ConfigError),
    /// The archive cannot be opened.
    #[error("cannot open the archive")]
    Archive(#[from] archive::OpenError),
}

/// The running daemon.
pub struct Daemon {
    /// The configuration in force, and the way to change it.
    settings: Arc<Settings>,
    /// The bound addresses of the listeners.
    addresses: Addresses,
    /// Turns true when the drain begins; listeners, links and HTTP watch it.
    shutdown_tx: watch::Sender<bool>,
    /// The queues of all streams, which the fan-in reads.
    sources: Arc<Sources>,
    /// Knows the sessions of the source side.
    router: Router,
    /// The links.
    links: Links,
    /// The threads of the archive.
    archive: Archive,
    /// The subscriber side.
    feed: Feed,
    /// Holds the catalog.
    catalog: Arc<CatalogStore>,
    /// The operator side.
    http: Http,
    /// Every stage that must not end before the drain, by name.
    stages: Tasks,
    /// Liveness of each stage, by name.
    liveness: Vec<(Arc<str>, Liveness)>,
    /// What others may read of the daemon.
    handles: Handles,
    /// Tells the service manager how the daemon is.
    notifier: Notifier,
    /// How often the service manager wants to hear of the watchdog; `None` if it does not.
    watchdog: Option<Duration>,
}

/// Handles to read a running daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handles {
    /// The books of all streams together.
    pub books: Arc<Books>,
    /// The pipeline's counters, see [`ingest::pipeline::stats::snapshot`].
    pub counters: Arc<Counters>,
    /// Signals that the counters changed.
    pub stats_changed: watch::Receiver<PipelineStats>,
    /// The broadcast of processed frames.
    pub fanout: Fanout,
    /// The registered sources.
    pub router: Router,
    /// The archive's counters.
    pub archive_stats: Arc<archive::ArchiveStats>,
    /// The status of the archive.
    pub archive_status: watch::Receiver<archive::Status>,
}

impl Daemon {
    /// Recovers the archive, binds the listeners and starts all parts.
    ///
    /// Blocks while the archive recovers.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_on(config, DiskStorage).await
    }

    /// [`Daemon::start`] with the archive on another storage, for tests that make it fail.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_on(config: Config, storage: impl Storage) -> Result<Self, StartError> {
        Self::start_under(Manager::default(), config, storage).await
    }

    /// [`Daemon::start_on`] under `manager`, which may hold sockets and may want notifications.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_under(
        manager: Manager,
        config: Config,
        storage: impl Storage,
    ) -> Result<Self, StartError> {
        start::start(manager, config, storage).await
    }

    /// The bound addresses of the listeners.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The configuration in force, and the way to change it.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// Handles to read the daemon.
    #[must_use]
    pub fn handles(&self) -> Handles {
        self.handles.clone()
    }

    /// The outputs.
    #[must_use]
    pub fn outputs(&self) -> Outputs {
        self.feed.outputs()
    }

    /// The store that holds the catalog and can replace it.
    #[must_use]
    pub fn catalog(&self) -> Arc<CatalogStore> {
        Arc::clone(&self.catalog)
    }

    /// Runs until `stop` resolves or a part fails, then drains. `stop_at_once` cuts the drain short.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropping the future stops all parts at once.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        stop_at_once: impl Future<Output = ()>,
    ) -> Outcome {
        let mut archive_status = self.archive.status();
        let watchdog = self.watch();
        let failure = tokio::select! {
            () = stop => None,
            () = status::report(self.handles.clone(), self.notifier.clone()) => unreachable!("the report never ends"),
            Some((name, reason)) = self.stages.join_next() => {
                let is_flowing = &*name != PROCESSOR;
                Some(Failure { what: format!("{name} ended: {reason}"), is_flowing })
            }
            Some((name, reason)) = self.feed.stages.join_next() => {
                Some(Failure { what: format!("{name} ended: {reason}"), is_flowing: true })
            }
            (name, reason) = self.http.failed() => {
                Some(Failure { what: format!("{name} ended: {reason}"), is_flowing: true })
            }
            error = archive_failure(&mut archive_status) => {
                Some(Failure { what: format!("archive failed: {error}"), is_flowing: false })
            }
        };
        if let Some(Failure { what, .. }) = &failure {
            tracing::error!("{what}; draining, then exit 1: the restart recovers the archive");
        }
        self.notifier.stopping(self.settings.live().current().shutdown.deadline);
        if let Some(watchdog) = &watchdog {
            watchdog.drain();
        }
        drain::drain(self, failure, stop_at_once).await
    }

    /// Starts the watchdog, if the service manager waits for it.
    fn watch(&mut self) -> Option<Watchdog> {
        let interval = self.watchdog.filter(|_| self.notifier.is_heard())?;
        let liveness = std::mem::take(&mut self.liveness);
        let started = Watchdog::start(interval, self.notifier.clone(), liveness);
        started.inspect_err(|error| tracing::error!(%error, "the watchdog cannot be started")).ok()
    }
}

/// Owns a stage, and keeps its liveness for the watchdog.
fn own(handle: ActorHandle, stages: &mut Tasks, liveness: &mut Vec<(Arc<str>, Liveness)>) {
    let name: Arc<str> = handle.name().into();
    liveness.extend(handle.liveness().map(|liveness| (name, liveness)));
    stages.own(handle);
}

/// Name of the stage without which no frame is archived.
const PROCESSOR: &str = "processor";

/// A part that ended too early.
struct Failure {
    /// Which part, and why.
    what: String,
    /// Whether accepted frames still reach the archive.
    is_flowing: bool,
}

/// Waits until the archive has failed, and returns the reason.
async fn archive_failure(status: &mut watch::Receiver<archive::Status>) -> Arc<str> {
    match status.wait_for(|status| matches!(status, archive::Status::Failed { .. })).await.as_deref() {
        Ok(archive::Status::Failed { error }) => Arc::clone(error),
        _ => "the commit thread has ended".into(),
    }
}

fn listen_error(key: &'static str, address: SocketAddr, source: io::Error) -> StartError {
    StartError::Listen { key, address, source }
}
