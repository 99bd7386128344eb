//! The HTTP server for operators: health, API, events. It has its own listener.
//!
//! * [`server`]: connections, their limits and timeouts;
//! * [`guard`]: which requests may change something or read payloads;
//! * `routes`: the handler of each path; each group of handlers has its own file next to it;
//! * [`events`]: what changes, encoded once a second for all clients.
//!
//! The memory of this crate has a bound: [`config::HTTP_BYTES`], plus parts that depend on the
//! configuration. Slow readers and many requests do not exceed it.
//!
//! Nothing here is on the path of a frame. Slow work, such as reading the archive or encoding long answers, runs on
//! other threads than those that serve sources. This crate never depends on the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};

use ::catalog::{CatalogStore, TEXT_BYTES_MAX};
use actor::{Capacity, ExitReason, Restart, Tasks, supervise, supervise_task};
use answer::{ApiError, ResponseLimiter};
use config::{HTTP_BYTES, HTTP_CONNECTIONS_MAX};
use connection::refusals::Reason;
use connection::{Listener, listener};
use equipment::links::Links;
use equipment::outputs::Outputs;
use ingest::{Router, StreamEdits};
use observe::sampler::Sampler;
use observe::{Handles, certificates};
use server::Peer;

mod answer;
mod catalog;
mod dashboard;
mod epoch;
pub mod events;
mod frames;
pub mod guard;
mod gzip;
mod health;
mod links;
pub mod metrics;
mod observed;
mod openapi;
mod refusals;
mod routes;
pub mod server;
mod streams;

/// Upper bound in bytes of all catalogs that are being received.
const PUT_BYTES: usize = 2 * TEXT_BYTES_MAX;
const BYTES_MAX: usize = HTTP_CONNECTIONS_MAX * server::CONNECTION_BYTES
    + answer::BUILDING_BYTES
    + answer::SCRAPING_BYTES
    + answer::UNREAD_BYTES
    + answer::UNREAD_SCRAPES_BYTES
    + gzip::AT_A_TIME * gzip::STATE_BYTES
    + events::KEPT_BYTES
    + events::MAKING_BYTES
    + PUT_BYTES;
const _: () = assert!(BYTES_MAX as u64 <= HTTP_BYTES, "the memory bound counts less than HTTP may take");

/// A part that fails more often than this ends. The daemon then decides what to do.
const RESTART: Restart = Restart { max: 10, within: Duration::from_secs(10) };

/// What requests can change.
pub struct Controls {
    /// Lowers epochs and forgets streams.
    pub edits: StreamEdits,
    /// Ends the connections of sources.
    pub router: Router,
    /// Switches links on and off.
    pub links: Links,
    /// Switches outputs on and off.
    pub outputs: Outputs,
    /// Takes a new catalog.
    pub catalog: Arc<CatalogStore>,
    /// Takes an operator's word that the clock is right.
    pub archive: archive::Tuning,
}

/// The shared state of all request handlers.
pub(crate) struct State {
    handles: Arc<Handles>,
    controls: Controls,
    events: events::Events,
    answers: ResponseLimiter,
    /// Held while a new catalog replaces the old one.
    putting: Arc<Mutex<()>>,
    /// One permit per byte of catalog that may still be received.
    put_room: Arc<Semaphore>,
}

impl State {
    /// Checks a request that changes something or reads payloads against the token in force. Counts a refusal.
    fn check(&self, peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
        self.judge(peer, headers).inspect_err(|error| self.note_refusal(peer, error))
    }

    /// Counts a refusal.
    fn note_refusal(&self, peer: Peer, error: &ApiError) {
        self.handles.refusals.note(Listener::Http, peer.0, Reason::Code(error.code()), error.reason());
    }

    /// Checks a request for data that is open to all clients when no token is configured.
    fn check_token(&self, peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
        match self.handles.live.current().http.token {
            Some(_) => self.check(peer, headers),
            None => Ok(()),
        }
    }

    /// Whether this reader may see data from payloads. The rule is the same as for the payloads of `/api/v1/frames`.
    fn may_read_payloads(&self, peer: Peer, headers: &HeaderMap) -> bool {
        self.judge(peer, headers).is_ok()
    }

    /// Does the same as [`State::check`], but does not count a refusal.
    fn judge(&self, peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
        guard::check(self.handles.live.current().http.token.as_ref(), peer, headers)
    }
}

/// The running HTTP server. Dropping it ends all connections.
pub struct Http {
    address: SocketAddr,
    /// Listener, connections, events.
    stages: Tasks,
    handles: Arc<Handles>,
    stop_tx: watch::Sender<bool>,
}

impl Http {
    /// Serves `handles` on `listener`. `sampler` computes the rates of `handles`. Requests change the daemon through `controls`.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(
        listener: TcpListener,
        handles: Handles,
        controls: Controls,
        sampler: Sampler,
    ) -> std::io::Result<Self> {
        let handles = Arc::new(handles);
        let address = listener.local_addr()?;
        let (events, maker) = events::Events::new(Arc::clone(&handles));
        let state = Arc::new(State {
            handles: Arc::clone(&handles),
            controls,
            events,
            answers: ResponseLimiter::default(),
            putting: Arc::default(),
            put_room: Arc::new(Semaphore::new(PUT_BYTES)),
        });
        let (stop_tx, stop) = watch::channel(false);
        let capacity = Capacity { urgent: 1, routine: 64 };
        let (connections, connections_handle) =
            supervise("http connections", RESTART, capacity, move |mailbox| {
                server::serve_all(mailbox, routes::all(Arc::clone(&state)), Arc::clone(&state.handles))
            });
        let (refusals, live) = (Arc::clone(&handles.refusals), handles.live.clone());
        let acceptor = server::Connections::new(connections, refusals, live);
        let listener_handle = listener::start("http listener", listener, acceptor, stop);
        let events_handle = supervise_task("http events", RESTART, move || maker.clone().run());
        let live = handles.live.clone();
        let certificates_handle =
            supervise_task("certificates", RESTART, move || certificates::watch(live.clone()));
        let rates_handle = supervise_task("rates", RESTART, move || sampler.clone().run());
        let mut stages = Tasks::new();
        for handle in [listener_handle, connections_handle, events_handle, certificates_handle, rates_handle]
        {
            handles.tell_restarts(&handle);
            stages.own(handle);
        }
        Ok(Self { address, stages, handles, stop_tx })
    }

    /// The address of the listener.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The handles that this server shows.
    #[must_use]
    pub fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Waits until a part ends unexpectedly. Cancel safe.
    pub async fn failed(&mut self) -> (Arc<str>, ExitReason) {
        match self.stages.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Closes all connections at once and ends.
    pub async fn finish(mut self) {
        self.stop_tx.send_replace(true);
        self.stages.abort_all();
        while self.stages.join_next().await.is_some() {}
    }
}
