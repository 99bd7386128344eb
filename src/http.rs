//! The operator's side: health, API, events, on a listener of its own.
//!
//! * [`server`]: connections, their limits and timeouts;
//! * [`guard`]: who may change something, or read payloads;
//! * `routes`: which path leads where; one file for each group of them beside it;
//! * [`events`]: what changes, once a second, made once for all who listen;
//! * [`client`]: the other side, for our own commands.
//!
//! Its memory has a bound, whoever asks and reads however slowly: [`config::HTTP_BYTES`](HTTP_BYTES) and what depends on
//! the configuration.
//!
//! Nothing here is on the way of a frame. Whatever takes long (reading the archive, long answers) is done off the threads
//! that serve sources.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};

use crate::actor::{Capacity, ExitReason, Restart, Tasks, supervise, supervise_task};
use crate::catalog::TEXT_BYTES_MAX;
use crate::config::HTTP_BYTES;
use crate::connection::refusals::Reason;
use crate::connection::{Listener, listener};
use crate::ingest::StreamEdits;
use crate::observe::View;
use crate::observe::sampler::Sampler;
use answer::{ApiError, ResponseLimiter};
use server::Peer;

mod answer;
mod catalog;
pub mod client;
mod dashboard;
pub mod epoch;
pub mod events;
mod frames;
pub mod guard;
mod gzip;
mod health;
pub mod metrics;
mod observed;
mod openapi;
mod refusals;
mod routes;
pub mod server;
pub mod streams;

pub use server::CONNECTIONS_MAX;

/// Catalogs that are coming, together.
const PUT_BYTES: usize = 2 * TEXT_BYTES_MAX;
const BYTES_MAX: usize = CONNECTIONS_MAX * server::CONNECTION_BYTES
    + answer::TELLING_BYTES
    + answer::SCRAPING_BYTES
    + answer::UNTAKEN_BYTES
    + gzip::AT_A_TIME * gzip::STATE_BYTES
    + events::KEPT_BYTES
    + events::MAKING_BYTES
    + PUT_BYTES;
const _: () = assert!(BYTES_MAX as u64 <= HTTP_BYTES, "the memory bound counts less than HTTP may take");

/// A part that fails more often than this ends, and its end is the daemon's to judge.
const RESTART: Restart = Restart { max: 10, within: Duration::from_secs(10) };

/// What every request may look at.
pub(crate) struct State {
    view: Arc<View>,
    /// Changes streams.
    edits: StreamEdits,
    events: events::Events,
    answers: ResponseLimiter,
    /// Held while a catalog that has come takes the place of the one before.
    putting: Arc<Mutex<()>>,
    /// Bytes of catalogs that may still come.
    put_room: Arc<Semaphore>,
}

impl State {
    /// Judges a request that changes something or reads payloads, by the token in force.
    fn check(&self, peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
        self.judge(peer, headers).inspect_err(|error| {
            let reason = Reason::Code(error.code());
            self.view.refusals.note(Listener::Http, peer.0, reason, error.reason());
        })
    }

    /// Judges a request for what is shown to all unless a token is configured.
    fn check_token(&self, peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
        match self.view.live.current().http.token {
            Some(_) => self.check(peer, headers),
            None => Ok(()),
        }
    }

    /// Whether what comes from payloads is for this reader: `/api/v1/frames` would give the payloads themselves.
    fn may_read_payloads(&self, peer: Peer, headers: &HeaderMap) -> bool {
        self.judge(peer, headers).is_ok()
    }

    /// [`State::check`] without a note that somebody was refused.
    fn judge(&self, peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
        guard::check(self.view.live.current().http.token.as_ref(), peer, headers)
    }
}

/// The running HTTP side. Dropping it ends all connections.
pub struct Http {
    address: SocketAddr,
    /// Listener, connections, events.
    stages: Tasks,
    view: Arc<View>,
    stop_tx: watch::Sender<bool>,
}

impl Http {
    /// Serves on `listener` what `view` shows, whose rates `sampler` makes. Operators change streams through `edits`.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(
        listener: TcpListener,
        view: View,
        edits: StreamEdits,
        sampler: Sampler,
    ) -> std::io::Result<Self> {
        let view = Arc::new(view);
        let address = listener.local_addr()?;
        let (events, maker) = events::Events::new(Arc::clone(&view));
        let state = Arc::new(State {
            view: Arc::clone(&view),
            edits,
            events,
            answers: ResponseLimiter::default(),
            putting: Arc::default(),
            put_room: Arc::new(Semaphore::new(PUT_BYTES)),
        });
        let (stop_tx, stop) = watch::channel(false);
        let capacity = Capacity { urgent: 1, routine: 64 };
        let (connections, connections_handle) =
            supervise("http connections", RESTART, capacity, move |mailbox| {
                server::serve_all(mailbox, routes::all(Arc::clone(&state)))
            });
        let acceptor = server::Connections::new(connections, Arc::clone(&view.refusals));
        let listener_handle = listener::start("http listener", listener, acceptor, stop);
        let events_handle = supervise_task("http events", RESTART, move || maker.clone().run());
        let rates_handle = supervise_task("rates", RESTART, move || sampler.clone().run());
        let mut stages = Tasks::new();
        for handle in [listener_handle, connections_handle, events_handle, rates_handle] {
            view.tell_restarts(&handle);
            stages.own(handle);
        }
        Ok(Self { address, stages, view, stop_tx })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it shows.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Waits for a part that ends before its time. Cancel safe.
    pub async fn failed(&mut self) -> (Arc<str>, ExitReason) {
        match self.stages.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Closes all connections, wherever they are, and ends.
    pub async fn finish(mut self) {
        self.stop_tx.send_replace(true);
        self.stages.abort_all();
        while self.stages.join_next().await.is_some() {}
    }
}
