//! The daemon's parts in this process, over real sockets. For tests that must look inside or hold a stage.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use catalog::CatalogStore;
use config::Config;
use connection::{Credentials, Entrance, Listener, listener};
use equipment::outputs::Outputs;
use frame::Batch;
use ingest::pipeline::{Counters, FanIn, Fanout, Gate, Output, OutputGone, Processor, Sources};
use ingest::{Books, Context, IngestConfig, Router, SessionPolicy, StreamTable};
use telemetry_aggregator::daemon::{Daemon, Handles, Outcome};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// The whole daemon, in this process.
pub struct Inside {
    pub runtime: Runtime,
    pub address: SocketAddr,
    pub handles: Handles,
    pub catalog: Arc<CatalogStore>,
    pub outputs: Outputs,
    stop_tx: watch::Sender<bool>,
    running: JoinHandle<Outcome>,
}

impl Inside {
    /// Starts on `dir`. `change` modifies a configuration with defaults for tests.
    pub fn start(dir: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let runtime = Runtime::new().unwrap();
        let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
        config.ingest.listen.set_port(0);
        config.feed.listen.set_port(0);
        config.http.listen.set_port(0);
        config.archive.segment_size = 64 << 20;
        config.archive.reserve = 32 << 20;
        change(&mut config);
        let daemon = runtime.block_on(Daemon::start(config)).unwrap();
        let (stop_tx, mut stop) = watch::channel(false);
        let (address, handles) = (daemon.addresses().ingest, daemon.handles());
        let (catalog, outputs) = (daemon.catalog(), daemon.outputs());
        let running = runtime.spawn(
            daemon.run(async move { drop(stop.wait_for(|stop| *stop).await) }, std::future::pending()),
        );
        Self { runtime, address, handles, catalog, outputs, stop_tx, running }
    }

    /// Drains the daemon and returns the outcome.
    pub fn stop(self) -> Outcome {
        self.stop_and_join(async {}).0
    }

    /// Drains the daemon and waits for `task`, which ends with the pipeline.
    pub fn stop_and_join<T>(self, task: impl Future<Output = T>) -> (Outcome, T) {
        self.stop_tx.send_replace(true);
        drop(self.handles);
        self.runtime.block_on(async { (self.running.await.unwrap(), task.await) })
    }
}

/// Listener, router, sessions, fan-in and processor, with an output that accepts a batch when the test allows it.
pub struct Held {
    pub runtime: Runtime,
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    pub books: Arc<Books>,
    seen_rx: mpsc::UnboundedReceiver<Batch>,
    go: Arc<Semaphore>,
    _shutdown_tx: watch::Sender<bool>,
    _owned: Vec<actor::ActorHandle>,
    _processor: JoinHandle<Result<(), OutputGone>>,
}

struct HeldOutput {
    seen_tx: mpsc::UnboundedSender<Batch>,
    go: Arc<Semaphore>,
    table: Arc<StreamTable>,
}

impl Output for HeldOutput {
    async fn append(&mut self, batch: Batch) -> Result<(), OutputGone> {
        self.seen_tx.send(batch.clone()).map_err(|_| OutputGone)?;
        self.go.acquire().await.map_err(|_| OutputGone)?.forget();
        for frame in batch.iter() {
            self.table.advance_in_commit(frame.origin, frame.priority, frame.sequence + 1, 1, Duration::ZERO);
        }
        self.table.end_commit();
        Ok(())
    }
}

impl Held {
    pub fn start(config: IngestConfig) -> Self {
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (sources, counters) = (Sources::new(), Arc::new(Counters::default()));
        let table = Arc::new(StreamTable::new(config.stream_limits()));
        let (seen_tx, seen_rx) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let books = table.books();
        let output = HeldOutput { seen_tx, go: Arc::clone(&go), table: Arc::clone(&table) };
        let fan_in = FanIn::new(
            Arc::clone(&sources),
            Gate::open(),
            Config::default().fan_in_config(),
            Arc::clone(&counters),
        );
        let processor = Processor::new(fan_in, output, Fanout::new(4), Arc::clone(&counters));
        let (shutdown_tx, shutdown) = watch::channel(false);
        let context = Arc::new(Context {
            entrance: Entrance::new(Listener::Ingest, Arc::default()),
            // The policy never changes: the receiver keeps the last value after the sender is dropped.
            policy: watch::channel(SessionPolicy::new(config, Credentials::default(), None)).1,
            history: None,
            catalog: watch::channel(Arc::default()).1,
            buffers: ingest::buffers(),
            shutdown: shutdown.clone(),
        });
        let (router, router_handle) = Router::start(context, table, sources);
        let listener_handle = listener::start("ingest listener", listener, router, shutdown);
        let processor = runtime.spawn(processor.run());
        drop(entered);
        Self {
            runtime,
            address,
            counters,
            books,
            seen_rx,
            go,
            _shutdown_tx: shutdown_tx,
            _owned: vec![listener_handle, router_handle],
            _processor: processor,
        }
    }

    /// The next batch at the output. The output does not finish the batch before `release`.
    pub fn next_batch(&mut self) -> Batch {
        let next = async { tokio::time::timeout(super::LIMIT, self.seen_rx.recv()).await };
        self.runtime.block_on(next).expect("a batch in time").expect("a running processor")
    }

    /// Lets the output finish `batches` batches.
    pub fn release(&self, batches: usize) {
        self.go.add_permits(batches);
    }
}
