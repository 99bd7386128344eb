//! The operator's side: health, API, events, on a listener of its own.
//!
//! * [`server`]: connections, their limits and timeouts;
//! * [`guard`]: who may change something, or read payloads;
//! * `routes`: which path leads where; one file for each group of them beside it;
//! * [`events`]: what changes, once a second, made once for all who listen;
//! * [`client`]: the other side, for our own commands.
//!
//! Nothing here is on the way of a frame. Whatever takes long (reading the archive, long answers) is done off the threads
//! that serve sources.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::actor::{Capacity, ExitReason, Tasks, spawn};
use crate::connection::listener;
use crate::observe::View;
use answer::ApiError;
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

/// Requests that read the archive at a time; the next waits.
pub const READERS_MAX: usize = 2;

/// What every request may look at.
pub(crate) struct State {
    view: Arc<View>,
    events: events::Events,
    readers: Arc<Semaphore>,
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
        let (events, feed_events) = events::Events::new(Arc::clone(&view));
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        let state = Arc::new(State { view: Arc::clone(&view), events, readers });
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
