//! How the daemon starts: storage, pipeline, source side, subscriber side, operator side, in this order.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::feed_side::Feed;
use super::listeners::Listeners;
use super::output::{self, DaemonOutput};
use super::settings::{self, Settings};
use super::{Addresses, Daemon, Handles, PROCESSOR, StartError, listen_error, own};
use crate::systemd::Manager;
use actor::{ActorHandle, Capacity, Mailbox, Tasks, spawn_stage};
use archive::{self, Appender, Archive, Commit, CommitObserver, Durable, Retention, SegmentStep, Storage};
use catalog::CatalogStore;
use config::Config;
use connection::{Entrance, Listener, Refusals, listener};
use equipment::links::{self, Links};
use equipment::outputs::held_from;
use export::Exporter;
use feed::Tail;
use frame::liveness::Liveness;
use frame::{BufferPool, unix_now_ns};
use ingest::pipeline::{Counters, FanIn, Fanout, Gate, PipelineStats, Processor, SourceQueue, Sources};
use ingest::{self, Context, Router, StreamEdits, StreamTable};
use observe::sampler::{Sampled, Sampler};
use observe::{self, Emergencies, Latencies};
use upload::Uploads;
use web::{Controls, Http};

/// Starts all parts; see [`Daemon::start_under`].
pub(super) async fn start(
    manager: Manager,
    config: Config,
    storage: impl Storage,
) -> Result<Daemon, StartError> {
    let Manager { sockets, notifier, watchdog } = manager;
    let listeners = Listeners::bind(&config, sockets).await?;
    let ingest_address = listeners.ingest.local_addr();
    let ingest_address =
        ingest_address.map_err(|source| listen_error("ingest.listen", config.ingest.listen, source))?;
    let catalog = Arc::new(CatalogStore::open(&config.data_dir, config.catalog.file.as_deref())?);

    let state = Shared::new(&config);
    let (appender, archive) = open_archive(&config, storage, &state)?;
    let pipeline = start_pipeline(&config, appender, &archive, &state);
    let parts = settings::Parts { table: Arc::clone(&state.table), archive: archive.tuning() };
    let settings = Settings::new(config, listeners.listening, parts);

    let mut stages = Stages::of(&archive);
    let (shutdown_tx, shutdown) = watch::channel(false);
    let buffers = ingest::buffers();
    let context = Context {
        entrance: Entrance::new(Listener::Ingest, Arc::clone(&state.refusals)),
        policy: settings.ingest_policy(),
        history: Some(archive.history()),
        catalog: catalog.subscribe(),
        buffers: Arc::clone(&buffers),
        shutdown: shutdown.clone(),
    };
    let router = start_ingest(context, listeners.ingest, &state, &mut stages);
    stages.own(pipeline.processor);
    let links = start_links(&settings, &router, &buffers, shutdown.clone(), &mut stages);
    let feed = Feed::start(&settings, listeners.feed, &archive, &state, &mut stages.liveness)?;
    stages.restarts.push(("feed listener".into(), feed.restarts()));
    begin_retention(&settings, &archive, &feed);

    let uploads = start_uploads(&settings, shutdown.clone(), &mut stages);
    let operator = Operator {
        archive: &archive,
        catalog: &catalog,
        router: &router,
        feed: &feed,
        links: &links,
        uploads,
    };
    let restarts = std::mem::take(&mut stages.restarts);
    let http = start_http(&settings, listeners.http, operator, &state, restarts, shutdown)?;
    let handles = Handles {
        books: state.table.books(),
        counters: pipeline.counters,
        stats_changed: pipeline.stats_changed,
        fanout: pipeline.fanout,
        router: router.clone(),
        archive_stats: archive.stats(),
        archive_status: archive.status(),
    };
    let addresses =
        Addresses { ingest: ingest_address, feed: Some(feed.address), http: Some(http.address()) };
    Ok(Daemon {
        settings,
        addresses,
        shutdown_tx,
        sources: state.sources,
        router,
        links,
        archive,
        feed,
        catalog,
        http,
        stages: stages.tasks,
        liveness: stages.liveness,
        handles,
        notifier,
        watchdog,
    })
}

/// The state that several parts share: commits write it, sessions and the operator side read it.
pub(super) struct Shared {
    /// The queues of all streams: sessions and links push, the fan-in takes.
    sources: Arc<Sources>,
    /// The positions and books of all streams.
    pub(super) table: Arc<StreamTable>,
    /// The newest durable frames, for the subscribers.
    pub(super) tail: Arc<Tail>,
    /// How long frames took to become durable.
    latencies: Arc<Latencies>,
    /// The last emergencies, for display.
    emergencies: Arc<Emergencies>,
    /// The connections that were refused, by reason.
    pub(super) refusals: Arc<Refusals>,
}

impl Shared {
    fn new(config: &Config) -> Self {
        Self {
            sources: Sources::new(),
            table: Arc::new(StreamTable::new(config.ingest_config().stream_limits())),
            tail: Tail::new(config.tail_bytes()),
            latencies: Arc::default(),
            emergencies: Arc::default(),
            refusals: Arc::default(),
        }
    }
}

/// The stages that must not end before the drain, and what the watchdog and the operator see of them.
struct Stages {
    /// The stages.
    tasks: Tasks,
    /// Liveness of each stage, by name.
    liveness: Vec<(Arc<str>, Liveness)>,
    /// How often each listener was restarted, by name.
    restarts: Vec<(Arc<str>, Arc<AtomicU64>)>,
}

impl Stages {
    /// The threads of the archive only.
    fn of(archive: &Archive) -> Self {
        let liveness = archive.liveness().map(|(name, liveness)| (name.into(), liveness)).into();
        Self { tasks: Tasks::new(), liveness, restarts: Vec::new() }
    }

    fn own(&mut self, handle: ActorHandle) {
        own(handle, &mut self.tasks, &mut self.liveness);
    }
}

/// Recovers the archive and restores the position of each stream.
fn open_archive(
    config: &Config,
    storage: impl Storage,
    state: &Shared,
) -> Result<(Appender, Archive), StartError> {
    let observer = Bookkeeper {
        table: Arc::clone(&state.table),
        tail: Arc::clone(&state.tail),
        latencies: Arc::clone(&state.latencies),
        emergencies: Arc::clone(&state.emergencies),
    };
    let export = config
        .export_config()
        .map(|export| Exporter::new(export).needs_listings(config.export.store.is_some()));
    let steps = export.into_iter().map(|export| -> Box<dyn SegmentStep> { Box::new(export) }).collect();
    // Nothing expires before the outputs say what they hold.
    let archive_config = archive::Config { retention: Retention::default(), ..config.archive_config() };
    let (appender, archive, recovery) = archive::open_with_steps(archive_config, storage, observer, steps)?;
    let windows = config.ingest_config().windows();
    for (key, position) in recovery.positions {
        let queue = SourceQueue::new(Arc::clone(&state.sources), windows);
        let inventor = config.inventor_of(&key);
        state.table.restore(key, position.epoch, position.next, queue, inventor);
    }
    Ok((appender, archive))
}

/// Puts the retention in force, except for what outputs hold.
fn begin_retention(settings: &Settings, archive: &Archive, feed: &Feed) {
    let (live, outputs) = (settings.live().clone(), feed.outputs().list());
    archive.tuning().hold(move || held_from(&live.current(), &outputs));
    archive.tuning().set(&settings.live().at_start().archive_config());
}

/// The running pipeline.
struct Pipeline {
    /// The task of the processor.
    processor: ActorHandle,
    /// What the pipeline counts.
    counters: Arc<Counters>,
    /// The broadcast of processed frames.
    fanout: Fanout,
    /// Signals that the counters changed.
    stats_changed: watch::Receiver<PipelineStats>,
}

fn start_pipeline(config: &Config, appender: Appender, archive: &Archive, state: &Shared) -> Pipeline {
    let counters = Arc::new(Counters::default());
    let store_replays = config.archive.store_replays;
    let gate = Gate::new(archive.routine_limit(), output::charge(store_replays));
    let sources = Arc::clone(&state.sources);
    let fan_in = FanIn::new(sources, gate, config.fan_in_config(), Arc::clone(&counters));
    let fanout = Fanout::new(config.pipeline.broadcast_capacity.get());
    let output = DaemonOutput::new(store_replays, appender, Arc::clone(&state.table));
    let processor = Processor::new(fan_in, output, fanout.clone(), Arc::clone(&counters));
    let stats_changed = processor.stats_changed();
    let (_, processor) =
        spawn_stage(PROCESSOR, Capacity { urgent: 1, routine: 1 }, |_: Mailbox<()>| processor.run());
    Pipeline { processor, counters, fanout, stats_changed }
}

/// Starts the source side: router and listener. The listener accepts no connection once the daemon drains.
fn start_ingest(context: Context, listener: TcpListener, state: &Shared, stages: &mut Stages) -> Router {
    let shutdown = context.shutdown.clone();
    let (table, sources) = (Arc::clone(&state.table), Arc::clone(&state.sources));
    let (router, router_handle) = Router::start(Arc::new(context), table, sources);
    let listener = listener::start("ingest listener", listener, router.clone(), shutdown);
    stages.restarts.push(("ingest listener".into(), listener.restarts_counter()));
    for handle in [listener, router_handle] {
        stages.own(handle);
    }
    router
}

/// Starts the input links.
fn start_links(
    settings: &Settings,
    router: &Router,
    buffers: &Arc<BufferPool>,
    shutdown: watch::Receiver<bool>,
    stages: &mut Stages,
) -> Links {
    let context = links::Context {
        router: router.clone(),
        policy: settings.ingest_policy(),
        live: settings.live().clone(),
        buffers: Arc::clone(buffers),
        shutdown: shutdown.clone(),
    };
    let (links, handle) = Links::start(context, settings.live().subscribe(), shutdown);
    stages.own(handle);
    links
}

/// Starts the uploads of exports to object storage, if there is a store.
fn start_uploads(
    settings: &Settings,
    shutdown: watch::Receiver<bool>,
    stages: &mut Stages,
) -> Option<Uploads> {
    let config = settings.live().at_start().upload_config()?;
    let (uploads, handle) = Uploads::start(config, shutdown);
    stages.own(handle);
    Some(uploads)
}

/// The parts that an operator sees.
struct Operator<'a> {
    /// Its numbers, and the frames that HTTP reads.
    archive: &'a Archive,
    /// The catalog, which an operator may replace.
    catalog: &'a Arc<CatalogStore>,
    /// The connected sources.
    router: &'a Router,
    /// The subscribers and outputs.
    feed: &'a Feed,
    /// The links.
    links: &'a Links,
    uploads: Option<Uploads>,
}

/// Starts the operator side: the sampler of rates, and HTTP.
fn start_http(
    settings: &Settings,
    listener: TcpListener,
    operator: Operator<'_>,
    state: &Shared,
    restarts: Vec<(Arc<str>, Arc<AtomicU64>)>,
    draining: watch::Receiver<bool>,
) -> Result<Http, StartError> {
    let Operator { archive, catalog, router, feed, links, uploads } = operator;
    let at_start = settings.live().at_start();
    let sampled = Sampled {
        books: state.table.books(),
        table: Arc::clone(&state.table),
        links: links.list(),
        latencies: Arc::clone(&state.latencies),
        archive_stats: archive.stats(),
        dir: at_start.archive_dir(),
    };
    let (rates_tx, rates) = watch::channel(Arc::default());
    let sampler = Sampler { sampled: Arc::new(sampled), rates_tx };
    let observed = observe::Handles {
        live: settings.live().clone(),
        started_ns: unix_now_ns(),
        books: state.table.books(),
        table: Arc::clone(&state.table),
        registered: router.sources(),
        link_list: links.list(),
        output_list: feed.outputs().list(),
        archive_stats: archive.stats(),
        archive_status: archive.status(),
        age_holds: archive.age_holds(),
        history: archive.history(),
        subscribers: feed.subscribers(),
        uploads,
        catalog: catalog.subscribe(),
        latencies: Arc::clone(&state.latencies),
        emergencies: Arc::clone(&state.emergencies),
        refusals: Arc::clone(&state.refusals),
        restarts: Mutex::new(restarts),
        draining,
        rates,
    };
    let controls = Controls {
        edits: StreamEdits::new(Arc::clone(&state.table), archive.position_edits()),
        router: router.clone(),
        links: links.clone(),
        outputs: feed.outputs(),
        catalog: Arc::clone(catalog),
        archive: archive.tuning(),
    };
    Http::start(listener, observed, controls, sampler)
        .map_err(|source| listen_error("http.listen", at_start.http.listen, source))
}

/// Reports to streams and subscribers what each commit made durable.
struct Bookkeeper {
    /// Learns how far each stream is durable, so that sessions acknowledge it.
    table: Arc<StreamTable>,
    /// Learns the durable frames, so that subscribers get them.
    tail: Arc<Tail>,
    /// Learns how long the frames took.
    latencies: Arc<Latencies>,
    /// Learns of the emergencies among them.
    emergencies: Arc<Emergencies>,
}

impl CommitObserver for Bookkeeper {
    fn committed(&mut self, commit: &Commit<'_>) {
        let now_ns = unix_now_ns();
        self.latencies.note(commit.received, now_ns);
        for durable in commit.positions {
            let Durable { ref origin, priority, next, frames, received_min_ns } = *durable;
            let latency = observe::elapsed(received_min_ns, now_ns);
            self.table.advance_in_commit(origin, priority, next, frames, latency);
        }
        self.table.end_commit();
        self.emergencies.note(commit);
        self.tail.publish(commit);
    }
}
