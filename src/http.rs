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

use axum::http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use crate::actor::{Capacity, ExitReason, Tasks, spawn};
use crate::catalog::TEXT_BYTES_MAX;
use crate::config::HTTP_BYTES;
use crate::connection::listener;
use crate::observe::View;
use answer::{Answers, ApiError};
use server::Peer;

mod answer;
mod catalog;
pub mod client;
mod dashboard;
pub mod epoch;
pub mod events;
mod frames;
pub mod guard;
mod health;
pub mod metrics;
mod observed;
mod openapi;
mod routes;
pub mod server;

pub use server::CONNECTIONS_MAX;

/// A catalog that is put, in pieces as it came and in one.
const PUT_BYTES: usize = 2 * TEXT_BYTES_MAX;
const BYTES_MAX: usize = CONNECTIONS_MAX * server::CONNECTION_BYTES
    + answer::TELLING_BYTES
    + answer::UNTAKEN_BYTES
    + events::KEPT_BYTES
    + events::MAKING_BYTES
    + PUT_BYTES;
const _: () = assert!(BYTES_MAX as u64 <= HTTP_BYTES, "the memory bound counts less than HTTP may take");

/// What every request may look at.
pub(crate) struct State {
    view: Arc<View>,
    events: events::Events,
    answers: Arc<Answers>,
    /// Held by who puts a catalog.
    putting: Mutex<()>,
}

impl State {
    /// Judges a request that changes something or reads payloads, by the token in force.
    fn check(&self, peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
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
    /// Serves on `listener` what `view` shows, whose rates `sampler` makes.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(
        listener: TcpListener,
        view: View,
        sampler: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<Self> {
        let view = Arc::new(view);
        let address = listener.local_addr()?;
        let answers = Arc::<Answers>::default();
        let (events, feed_events) = events::Events::new(Arc::clone(&view), Arc::clone(&answers));
        let state = Arc::new(State { view: Arc::clone(&view), events, answers, putting: Mutex::default() });
        let (stop_tx, stop) = watch::channel(false);
        let capacity = Capacity { urgent: 1, routine: 64 };
        let (connections, connections_handle) =
            spawn("http connections", capacity, |mailbox| server::serve_all(mailbox, routes::all(state)));
        let acceptor = server::Connections::new(connections);
        let listener_handle = listener::start("http listener", listener, acceptor, stop);
        let mut stages = Tasks::new();
        for handle in [listener_handle, connections_handle] {
            stages.own(handle);
        }
        stages.spawn("http events", feed_events);
        stages.spawn("rates", sampler);
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
