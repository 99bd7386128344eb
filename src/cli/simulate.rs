//! `run --simulate`: plays a fleet on loopback, for a first look with one command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::daemon::{Handles, summary};
use actor::Tasks;
use catalog::CatalogStore;
use frame::unix_now_ns;
use sim::{self, Plan, Progress};
use support::logging::Stdout;

/// Frames per second of each source.
const RATE: f64 = 10.0;
/// Share of emergencies. The 50 sources of the fleet send 500 frames per second together, so there is one emergency in
/// about seven seconds, and a reader sees each.
const EMERGENCY_RATIO: f64 = 0.0003;
/// How long the fleet waits for its last acknowledgements when the daemon stops.
const LINGER: Duration = Duration::from_secs(1);

/// Plays the fleet against `address` and prints a summary line per second until `stop` turns true.
pub(super) async fn play(
    address: SocketAddr,
    tls: Option<tls::Client>,
    token: String,
    handles: Handles,
    catalog: &CatalogStore,
    stop: watch::Receiver<bool>,
) {
    let elements = sim::orbits::catalog(Plan::default().satellites, unix_now_ns());
    if let Err(error) = catalog.offer(elements) {
        tracing::warn!(%error, "the simulated fleet has no orbits");
    }
    let plan = Plan {
        connect: address.to_string(),
        tls,
        rate: RATE,
        emergency_ratio: EMERGENCY_RATIO,
        token,
        linger: LINGER,
        ..Plan::default()
    };
    let mut lines = Tasks::new();
    match Stdout::start() {
        Ok(stdout) => lines.spawn("summary", summary::every_second(handles, stdout)),
        Err(error) => tracing::warn!(%error, "no summary on stdout"),
    }
    let report = sim::run(plan, stop, Arc::new(Progress::default())).await;
    // Ends the summary lines.
    drop(lines);
    tracing::info!(sent = report.sent, acked = report.acked, "simulation ended");
}
