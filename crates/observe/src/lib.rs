//! What operators see of a running daemon: the counters of its parts, and rates that are computed once a second.
//!
//! [`Handles`] holds the handles to everything that operators see. [`sampler`] computes the [`Rates`]. `report` makes
//! answers of the HTTP [`api`] from both. The dashboard, `top` and the metrics use the same answers.
//!
//! The path of a frame writes only the counts of [`latencies`] and the notes of [`emergencies`], once per commit.
//!
//! This crate only reads. It never depends on the HTTP server or the daemon.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use actor::ActorHandle;
use archive::{self, History};
use catalog::Catalog;
use config::ConfigHandle;
use connection::Refusals;
use equipment::links::LinkList;
use equipment::outputs::OutputList;
use feed::Subscribers;
use ingest::{Books, SourceList, StreamTable};
use upload::Uploads;

pub mod certificates;
pub mod emergencies;
mod fleet;
pub mod latencies;
mod links;
mod report;
pub mod sampler;

pub use emergencies::Emergencies;
pub use latencies::Latencies;
pub use sampler::Rates;

/// Handles to everything that operators see of a running daemon.
pub struct Handles {
    /// The configuration in force.
    pub live: ConfigHandle,
    /// When the daemon started, unix nanoseconds.
    pub started_ns: i64,
    /// The books of all streams together.
    pub books: Arc<Books>,
    /// All streams.
    pub table: Arc<StreamTable>,
    /// The input links.
    pub link_list: LinkList,
    /// The output links.
    pub output_list: OutputList,
    /// The registered sources.
    pub registered: SourceList,
    /// The archive's counters.
    pub archive_stats: Arc<archive::ArchiveStats>,
    /// The status of the archive.
    pub archive_status: watch::Receiver<archive::Status>,
    /// Whether the archive trusts the clock.
    pub age_holds: archive::AgeHolds,
    /// Reads durable frames.
    pub history: History,
    /// The subscribers of the feed.
    pub subscribers: Arc<Subscribers>,
    /// The uploads of exports, if exports are uploaded.
    pub uploads: Option<Uploads>,
    /// The orbital elements.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// Latencies from the socket to stable storage.
    pub latencies: Arc<Latencies>,
    /// The newest emergencies.
    pub emergencies: Arc<Emergencies>,
    /// Connections that were refused.
    pub refusals: Arc<Refusals>,
    /// How often each supervised part was restarted after a failure, by name.
    pub restarts: Mutex<Vec<(Arc<str>, Arc<AtomicU64>)>>,
    /// Turns true when the daemon drains.
    pub draining: watch::Receiver<bool>,
    /// The rates, updated every second.
    pub rates: watch::Receiver<Arc<Rates>>,
}

impl Handles {
    /// Registers `part`, so that its restarts are reported.
    pub fn tell_restarts(&self, part: &ActorHandle) {
        let restarts = (part.name().into(), part.restarts_counter());
        self.restarts.lock().unwrap_or_else(PoisonError::into_inner).push(restarts);
    }

    /// The status of the archive. Foreign segments make an `Ok` archive `Degraded`.
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

    /// The reasons why the daemon does not accept all data that clients offer. Empty when it accepts everything.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let draining = self.draining.borrow().then(|| "draining: no new connections are taken".to_owned());
        // Foreign files that were set aside do not stop the intake.
        let archive = match self.archive_status.borrow().clone() {
            archive::Status::Ok => None,
            archive::Status::Degraded { reason } => {
                let holding = self.holding().map_or(String::new(), |holding| format!("; {holding}"));
                Some(format!("archive degraded: {reason}{holding}"))
            }
            archive::Status::Failed { error } => Some(format!("archive failed: {error}")),
        };
        draining.into_iter().chain(archive).collect()
    }
}

/// The time from `since_ns` to `now_ns`, both unix nanoseconds. Zero when a clock was set back in between.
#[must_use]
pub fn elapsed(since_ns: i64, now_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(now_ns.saturating_sub(since_ns)).unwrap_or(0))
}
