//! What operators see of a running daemon: counters where they are kept, and rates made of them once a second.
//!
//! [`View`] is the hold on everything there is to see, [`sampler`] makes the [`Rates`], and [`report`] puts both into the
//! shapes that the HTTP API serves, the dashboard and `top` show and the metrics are made of. Nothing here is written by
//! the way of a frame but the counts of [`latencies`] and the notes of [`emergencies`], once a commit.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::actor::ActorHandle;
use crate::archive::{self, History};
use crate::catalog::CatalogStore;
use crate::config::ConfigHandle;
use crate::connection::Refusals;
use crate::feed::Subscribers;
use crate::ingest::{Books, StreamTable};
use crate::pipeline::{Router, SourceInfo};

pub mod emergencies;
pub mod fleet;
pub mod latencies;
pub mod report;
pub mod sampler;

pub use emergencies::{Emergencies, Emergency};
pub use fleet::Fleet;
pub use latencies::Latencies;
pub use sampler::Rates;

/// Everything there is to see of a running daemon.
pub struct View {
    /// What is in force.
    pub live: ConfigHandle,
    /// When it started, unix nanoseconds.
    pub started_ns: i64,
    /// The books of all streams together.
    pub books: Arc<Books>,
    /// All streams.
    pub table: Arc<StreamTable>,
    /// The registered sources, until the drain needs it to end.
    pub router: Mutex<Option<Router>>,
    /// The archive's counters.
    pub archive_stats: Arc<archive::ArchiveStats>,
    /// How the archive is.
    pub archive_status: watch::Receiver<archive::Status>,
    /// Whether the archive trusts the clock.
    pub archive_tuning: archive::Tuning,
    /// What is durable.
    pub history: History,
    /// Who is subscribed.
    pub subscribers: Arc<Subscribers>,
    /// The orbital elements.
    pub catalog: Arc<CatalogStore>,
    /// From the socket to stable storage.
    pub latencies: Arc<Latencies>,
    /// The newest emergencies.
    pub emergencies: Arc<Emergencies>,
    /// Connections that were refused.
    pub refusals: Arc<Refusals>,
    /// How often parts that are begun anew after a failure were, by name.
    pub restarts: Mutex<Vec<(Arc<str>, Arc<AtomicU64>)>>,
    /// Turns true when the daemon drains.
    pub draining: watch::Receiver<bool>,
    /// Made anew every second.
    pub rates: watch::Receiver<Arc<Rates>>,
}

impl View {
    /// Has the restarts of a part told from now on.
    pub fn tell_restarts(&self, part: &ActorHandle) {
        let restarts = (part.name().into(), part.restarts_counter());
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner).push(restarts);
    }

    /// The registered sources; none once the daemon has drained them.
    pub async fn registered(&self) -> Vec<SourceInfo> {
        match self.router() {
            Some(router) => router.list().await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// The router, unless the daemon has drained its sources.
    #[must_use]
    pub fn router(&self) -> Option<Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets go of the router, which ends when nobody can reach it.
    pub fn let_go_of_router(&self) {
        self.router.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// How the archive is, foreign segments included.
    #[must_use]
    pub fn archive_status(&self) -> archive::Status {
        let status = self.archive_status.borrow().clone();
        match self.archive_stats.foreign_segments.load(Relaxed) {
            count @ 1.. if status == archive::Status::Ok => {
                let reason = format!(
                    "files of another archive were found among the segments: {count} of them are now in the archive's \
                     directory lost and end in .foreign; the log names them; move them away"
                );
                archive::Status::Degraded { reason: reason.into() }
            }
            _ => status,
        }
    }

    /// Why the daemon does not take in everything it is offered; empty when it does.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let draining = self.draining.borrow().then(|| "draining: no new connections are taken".to_owned());
        // Files of another archive that were set aside keep nothing from being taken in.
        let archive = match self.archive_status.borrow().clone() {
            archive::Status::Ok => None,
            archive::Status::Degraded { reason } => Some(format!("archive degraded: {reason}")),
            archive::Status::Failed { error } => Some(format!("archive failed: {error}")),
        };
        draining.into_iter().chain(archive).collect()
    }
}

/// From `since_ns` to `now_ns`, unix nanoseconds; zero when a clock was set back in between.
#[must_use]
pub fn elapsed(since_ns: i64, now_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(now_ns.saturating_sub(since_ns)).unwrap_or(0))
}
