//! The daemon: wires the parts together, and takes them down again in the order the data flows.
//!
//! ```text
//! listener -> registry -> sessions -> router, fan-in, processor -> archive
//!    ^                        |                                      |
//!    +------ shutdown --------+        commits: positions, books <---+
//! ```
//!
//! This is the one place that knows all parts. [`Daemon::start`] builds, [`Daemon::run`] waits for a reason to end,
//! `drain` ends. [`Settings`] is what may change in between.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::actor::{ActorHandle, Capacity, Mailbox, Tasks, spawn_stage};
use crate::archive::export::Exporter;
use crate::archive::{self, Archive, Commit, CommitObserver, DiskStorage, Durable, SegmentStep, Storage};
use crate::catalog::{CatalogError, CatalogStore};
use crate::config::{Config, ConfigError};
use crate::connection::{Entrance, Listener, Refusals, listener};
use crate::feed::Tail;
use crate::frame::unix_now_ns;
use crate::http::Http;
use crate::ingest::{self, Books, Context, Registry, StreamTable};
use crate::observe::sampler::{Sampled, Sampler};
use crate::observe::{self, Emergencies, Latencies};
use crate::pipeline::{
    Counters, FanIn, Fanout, Gate, PipelineStats, Processor, Router, SourceQueue, Sources,
};
use crate::pulse::Pulse;
use crate::systemd::{Manager, Notifier, Watchdog};

mod drain;
mod feed_side;
mod listeners;
mod output;
pub mod ready_file;
mod settings;
pub mod signals;
mod status;
pub mod summary;

use feed_side::Feed;

pub use drain::Outcome;
pub use settings::Settings;

use listeners::Listeners;
use output::DaemonOutput;

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
    /// The address cannot be listened on.
    #[error("cannot listen on {address} ({key})")]
    Listen {
        /// The key that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// `catalog.file` is none.
    #[error("{0} (catalog.file)")]
    Catalog(#[from] CatalogError),
    /// The configuration does not go with the addresses of the sockets that were handed over.
    #[error("the sockets that were handed over do not go with the configuration")]
    Sockets(#[source] ConfigError),
    /// The archive cannot be opened.
    #[error("cannot open the archive")]
    Archive(#[from] archive::OpenError),
}

/// The running daemon.
pub struct Daemon {
    settings: Arc<Settings>,
    addresses: Addresses,
    shutdown_tx: watch::Sender<bool>,
    sources: Arc<Sources>,
    router: Router,
    registry: Registry,
    archive: Archive,
    feed: Feed,
    catalog: Arc<CatalogStore>,
    http: Http,
    /// Everything that must not end before the drain, by name.
    stages: Tasks,
    /// Whether each stage turns, by name.
    pulses: Vec<(Arc<str>, Pulse)>,
    view: View,
    notifier: Notifier,
    watchdog: Option<Duration>,
}

/// What there is to see of a running daemon; cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    /// The books of all streams together.
    pub books: Arc<Books>,
    /// The pipeline's counters, see [`crate::pipeline::stats::snapshot`].
    pub counters: Arc<Counters>,
    /// Tells that the counters changed.
    pub stats_changed: watch::Receiver<PipelineStats>,
    /// Where to subscribe to processed frames.
    pub fanout: Fanout,
    /// The registered sources.
    pub router: Router,
    /// The archive's counters.
    pub archive_stats: Arc<archive::ArchiveStats>,
    /// How the archive is.
    pub archive_status: watch::Receiver<archive::Status>,
}

impl Daemon {
    /// Recovers the archive, binds the listeners and starts all parts.
    ///
    /// Blocks while the archive recovers.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
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

    /// [`Daemon::start_on`] with what `manager` gives: sockets it holds, and its wish to be told.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub async fn start_under(
        manager: Manager,
        config: Config,
        storage: impl Storage,
    ) -> Result<Self, StartError> {
        let Manager { sockets, notifier, watchdog } = manager;
        let Listeners { ingest: listener, feed: feed_listener, http: http_listener } =
            Listeners::bind(&config, sockets).await?;
        let address = listener.local_addr();
        let ingest_address =
            address.map_err(|source| listen_error("ingest.listen", config.ingest.listen, source))?;

        let catalog = Arc::new(CatalogStore::open(&config.data_dir, config.catalog.file.as_deref())?);
        let (books, sources) = (Arc::new(Books::default()), Sources::new());
        let ingest_config = config.ingest_config();
        let table = Arc::new(StreamTable::new(ingest_config.stream_limits()));
        let tail = Tail::new(config.tail_bytes());
        let (latencies, emergencies) = (Arc::<Latencies>::default(), Arc::<Emergencies>::default());
        let observer = Bookkeeper {
            table: Arc::clone(&table),
            books: Arc::clone(&books),
            tail: Arc::clone(&tail),
            latencies: Arc::clone(&latencies),
            emergencies: Arc::clone(&emergencies),
        };
        let export =
            config.export_config().map(|export| -> Box<dyn SegmentStep> { Box::new(Exporter::new(export)) });
        let steps = export.into_iter().collect();
        let (appender, archive, recovery) =
            archive::open_with_steps(config.archive_config(), storage, observer, steps)?;
        for (key, position) in recovery.positions {
            let queue = SourceQueue::new(Arc::clone(&sources), ingest_config.windows());
            table.restore(key, position.epoch, position.next, queue);
        }

        let counters = Arc::new(Counters::default());
        let store_replays = config.archive.store_replays;
        let gate = Gate::new(archive.routine_limit(), output::charge(store_replays));
        let fan_in = FanIn::new(Arc::clone(&sources), gate, config.fan_in_config(), Arc::clone(&counters));
        let fanout = Fanout::new(config.pipeline.broadcast_capacity.get());
        let output = DaemonOutput::new(store_replays, appender, Arc::clone(&table), Arc::clone(&books));
        let processor = Processor::new(fan_in, output, fanout.clone(), Arc::clone(&counters));
        let stats_changed = processor.stats_changed();

        let (shutdown_tx, shutdown) = watch::channel(false);
        let (router, router_handle) = Router::start(Arc::clone(&sources));
        let parts = settings::Parts { table: Arc::clone(&table), archive: archive.tuning() };
        let settings = Settings::new(config, parts);
        let draining = shutdown.clone();
        let refusals = Arc::<Refusals>::default();
        let context = Arc::new(Context {
            entrance: Entrance::new(Listener::Ingest, Arc::clone(&refusals)),
            terms: settings.ingest_terms(),
            router: router.clone(),
            books: Arc::clone(&books),
            catalog: catalog.subscribe(),
            buffers: ingest::buffers(),
            shutdown: shutdown.clone(),
        });
        let (registry, registry_handle) = Registry::start(context, Arc::clone(&table), Arc::clone(&sources));
        let listener_handle = listener::start("ingest listener", listener, registry.clone(), shutdown);
        let (_, processor_handle) =
            spawn_stage(PROCESSOR, Capacity { urgent: 1, routine: 1 }, |_: Mailbox<()>| processor.run());

        let mut pulses = Vec::from(archive.pulses().map(|(name, pulse)| (name.into(), pulse)));
        let feed = Feed::start(&settings, feed_listener, &archive, tail, Arc::clone(&refusals), &mut pulses)?;
        let mut restarts = vec![("ingest listener".into(), listener_handle.restarts_counter())];
        restarts.push(("feed listener".into(), feed.restarts()));
        let mut stages = Tasks::new();
        for handle in [listener_handle, registry_handle, router_handle, processor_handle] {
            own(handle, &mut stages, &mut pulses);
        }
        let view = View {
            books,
            counters,
            stats_changed,
            fanout,
            router: router.clone(),
            archive_stats: archive.stats(),
            archive_status: archive.status(),
        };
        let sampled = Sampled {
            books: Arc::clone(&view.books),
            table: Arc::clone(&table),
            latencies: Arc::clone(&latencies),
            archive_stats: archive.stats(),
            dir: settings.live().at_start().archive_dir(),
        };
        let (rates_tx, rates) = watch::channel(Arc::default());
        let observed = observe::View {
            live: settings.live().clone(),
            started_ns: unix_now_ns(),
            books: Arc::clone(&view.books),
            table,
            router: Mutex::new(Some(router.clone())),
            archive_stats: archive.stats(),
            archive_status: archive.status(),
            archive_tuning: archive.tuning(),
            history: archive.history(),
            resets: archive.resets(),
            subscribers: feed.subscribers(),
            catalog: Arc::clone(&catalog),
            latencies,
            emergencies,
            refusals,
            restarts: Mutex::new(restarts),
            draining,
            rates,
        };
        let sampler = Sampler { sampled: Arc::new(sampled), rates_tx };
        let http = Http::start(http_listener, observed, sampler)
            .map_err(|source| listen_error("http.listen", settings.live().at_start().http.listen, source))?;
        let addresses =
            Addresses { ingest: ingest_address, feed: Some(feed.address), http: Some(http.address()) };
        Ok(Self {
            settings,
            addresses,
            shutdown_tx,
            sources,
            router,
            registry,
            archive,
            feed,
            catalog,
            http,
            stages,
            pulses,
            view,
            notifier,
            watchdog,
        })
    }

    /// Where the listeners are.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What is in force, and the way to change it.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// What there is to see.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Where the catalog is, and can be replaced.
    #[must_use]
    pub fn catalog(&self) -> Arc<CatalogStore> {
        Arc::clone(&self.catalog)
    }

    /// Runs until `stop` resolves or a part fails, then drains. `stop_at_once` cuts the drain short.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropping it stops all parts where they are.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        stop_at_once: impl Future<Output = ()>,
    ) -> Outcome {
        let mut archive_status = self.archive.status();
        let watchdog = self.watch();
        let failure = tokio::select! {
            () = stop => None,
            () = status::report(self.view.clone(), self.notifier.clone()) => unreachable!("it reports for ever"),
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
            tracing::error!("{what}; draining what can be drained, then exit 1: the restart recovers");
        }
        self.notifier.stopping(self.settings.live().current().shutdown.deadline);
        if let Some(watchdog) = &watchdog {
            watchdog.drain();
        }
        drain::drain(self, failure, stop_at_once).await
    }

    /// Starts the watchdog, if somebody waits for it.
    fn watch(&mut self) -> Option<Watchdog> {
        let interval = self.watchdog.filter(|_| self.notifier.is_heard())?;
        let pulses = std::mem::take(&mut self.pulses);
        let started = Watchdog::start(interval, self.notifier.clone(), pulses);
        started.inspect_err(|error| tracing::error!(%error, "the watchdog cannot be started")).ok()
    }
}

/// Keeps a stage, and its pulse to be looked at.
fn own(handle: ActorHandle, stages: &mut Tasks, pulses: &mut Vec<(Arc<str>, Pulse)>) {
    let name: Arc<str> = handle.name().into();
    pulses.extend(handle.pulse().map(|pulse| (name, pulse)));
    stages.own(handle);
}

/// Name of the stage without which nothing is archived.
const PROCESSOR: &str = "processor";

/// A part that ended before its time.
struct Failure {
    what: String,
    /// Whether accepted frames still reach the archive.
    is_flowing: bool,
}

/// Waits until the archive has failed, and says why.
async fn archive_failure(status: &mut watch::Receiver<archive::Status>) -> Arc<str> {
    match status.wait_for(|status| matches!(status, archive::Status::Failed { .. })).await.as_deref() {
        Ok(archive::Status::Failed { error }) => Arc::clone(error),
        _ => "the commit thread is gone".into(),
    }
}

fn listen_error(key: &'static str, address: SocketAddr, source: io::Error) -> StartError {
    StartError::Listen { key, address, source }
}

/// Tells streams, books and subscribers what each commit made durable.
struct Bookkeeper {
    table: Arc<StreamTable>,
    books: Arc<Books>,
    tail: Arc<Tail>,
    latencies: Arc<Latencies>,
    emergencies: Arc<Emergencies>,
}

impl CommitObserver for Bookkeeper {
    fn committed(&mut self, commit: &Commit<'_>) {
        let now_ns = unix_now_ns();
        self.latencies.note(commit.received, now_ns);
        for durable in commit.positions {
            self.books.add_archived(durable.frames);
            let Durable { ref origin, priority, next, frames, received_min_ns } = *durable;
            let latency = observe::elapsed(received_min_ns, now_ns);
            self.table.advance_in_commit(origin, priority, next, frames, latency);
        }
        self.table.end_commit();
        self.emergencies.note(commit);
        self.tail.publish(commit);
    }
}
