//! A simulated fleet: satellites and replay feeds that send to a daemon.
//!
//! The `uplink-sim` binary, the daemon's `run --simulate` and the tests share it. [`run`] starts one task per
//! source. Each task holds one connection at a time.
//!
//! This crate depends on `frame`, `wire`, `client`, `catalog`, `framing` and `support`, never on the daemon, so that it
//! finds errors of the daemon.
//!
//! | file | purpose |
//! |---|---|
//! | `content.rs` | what a frame holds: [`payload`], [`priority`] |
//! | `ccsds.rs` | [`read_packets`]: recordings of CCSDS packets as payloads |
//! | `resend_buffer.rs` | the books of one source: credit, frames without an acknowledgement, what goes next |
//! | `script.rs` | what a source says on a connection |
//! | `source.rs` | one source: its connections one after the other |
//! | `pace.rs` | when frames are due, and when the feed ends |
//! | `catalogs.rs` | puts together the parts of the catalog that the daemon sends |
//! | `orbits.rs` | [`orbits`]: orbits for the simulated fleet, as TLE text |
//! | `link.rs` | [`link`]: equipment that sends to an input link in a format of its own |
//! | `stations.rs` | ground stations with plausible names |
//! | `tally.rs` | [`Progress`]: what all sources of a run count together |
//! | `report.rs` | [`Report`]: the outcome of a run |
//! | `cli.rs` | [`cli`]: the command line of `uplink-sim` |
//!
//! Limits: a source keeps at most 16,384 unacknowledged frames per lane, and writes at most 64 KiB and one
//! frame at a time. Of a kept frame only sequence and time are held. A resend generates its content again.
//! The lanes share one sequence counter and walk it at their own pace. Flat out, one lane leads the other by
//! at most 4,096 sequences, so a lane without credit delays the other only then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

mod catalogs;
mod ccsds;
pub mod cli;
mod content;
pub mod link;
pub mod orbits;
mod pace;
mod report;
mod resend_buffer;
mod script;
mod source;
mod stations;
mod tally;
#[cfg(test)]
mod tests;

pub use catalogs::{CatalogCounts, CatalogWish};
pub use ccsds::{InputError, read_packets};
pub use content::{payload, priority};
pub use report::Report;
pub use stations::station_name;
pub use tally::{Counts, Progress, Quantiles};

use self::content::Content;
use self::resend_buffer::Mode;
use self::source::Source;
use self::tally::Latency;
use frame::{ANONYMOUS_EPOCH_MIN, SourceKind, Station, StreamKey, unix_now_ns};

/// The parameters of a simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `host:port` of the daemon's ingest listener; resolved again for each connection.
    pub connect: String,
    /// TLS of the connections, if they are encrypted.
    pub tls: Option<tls::Client>,
    /// Live sources; their ids count from 0.
    pub satellites: u32,
    /// Replay feeds; their ids follow those of the satellites.
    pub replays: u32,
    /// Ground stations over which the sources are spread; 0 leaves the station unnamed.
    pub stations: u32,
    /// Frames per source; `None` means until `duration`, the stop, or the end of `input`.
    pub frames: Option<u64>,
    /// How long frames are sent, from the start of the run.
    pub duration: Option<Duration>,
    /// Frames per second and source; 0 is flat out. A delayed source catches up.
    pub rate: f64,
    /// Payload of each frame in bytes; not used with `input`.
    pub payload_bytes: usize,
    /// Share of emergencies, 0 to 1.
    pub emergency_ratio: f64,
    /// Packets to send instead of generated payloads: each source sends all of them once, one per frame.
    pub input: Option<Arc<Vec<Bytes>>>,
    /// Credential, may be empty.
    pub token: String,
    /// Whether to ask for the catalog.
    pub catalog: CatalogWish,
    /// Use NO_ACK and epoch 0: nothing is kept, and only the server's BYE says what arrived.
    pub no_ack: bool,
    /// Compress the frames, if the server takes that.
    pub zstd: bool,
    /// Sequence space of all sources, 1 to 2^63-1; `None` means unix milliseconds at the start.
    pub epoch: Option<u64>,
    /// Decides payloads and priorities.
    pub seed: u64,
    /// How long to wait for missing acknowledgements after the last frame or the stop.
    pub linger: Duration,
}

impl Default for Plan {
    /// The defaults of `uplink-sim`.
    fn default() -> Self {
        Self {
            connect: "127.0.0.1:7480".to_owned(),
            tls: None,
            satellites: 48,
            replays: 2,
            stations: 12,
            frames: None,
            duration: None,
            rate: 0.0,
            payload_bytes: 256,
            emergency_ratio: 0.01,
            input: None,
            token: String::new(),
            catalog: CatalogWish::No,
            no_ack: false,
            zstd: false,
            epoch: None,
            seed: 0,
            linger: Duration::from_secs(10),
        }
    }
}

impl Plan {
    /// Number of sources.
    #[must_use]
    pub const fn sources(&self) -> u32 {
        self.satellites.saturating_add(self.replays)
    }

    /// Frames that each source sends, if nothing ends it earlier; `u64::MAX` when only time or a stop ends
    /// it.
    #[must_use]
    pub fn frames_per_source(&self) -> u64 {
        let packets = self.input.as_ref().map(|packets| packets.len() as u64);
        let limits = [self.frames, packets];
        limits.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// The stream of source `index`, counted over satellites and replays.
    #[must_use]
    pub fn stream(&self, index: u32) -> StreamKey {
        StreamKey {
            source_id: index,
            source_kind: if index < self.satellites {
                SourceKind::LiveUplink
            } else {
                SourceKind::ArchivedReplay
            },
            station: match self.stations {
                0 => Station::default(),
                count => Station::new(&station_name(index % count)).unwrap_or_default(),
            },
        }
    }

    fn content(&self, index: u32) -> Content {
        match &self.input {
            Some(packets) => Content::packets(self.seed, index, self.emergency_ratio, Arc::clone(packets)),
            None => Content::generated(self.seed, index, self.emergency_ratio, self.payload_bytes),
        }
    }

    /// Spreads the first frames of the sources over one interval, so that the sources do not all send at one
    /// moment.
    fn phase(&self, index: u32) -> Duration {
        let part = f64::from(index) / f64::from(self.sources().max(1));
        Duration::try_from_secs_f64(part / self.rate).unwrap_or_default()
    }
}

/// The state that all sources of a run share.
struct Shared {
    plan: Plan,
    epoch: u64,
    started: Instant,
    started_unix_ns: i64,
    progress: Arc<Progress>,
    latency: Latency,
}

impl Shared {
    fn new(plan: Plan, progress: Arc<Progress>) -> Self {
        let started_unix_ns = unix_now_ns();
        let milliseconds = u64::try_from(started_unix_ns / 1_000_000).unwrap_or(0);
        let epoch = plan.epoch.unwrap_or(milliseconds);
        Self {
            epoch: if plan.no_ack { 0 } else { epoch.clamp(1, ANONYMOUS_EPOCH_MIN - 1) },
            started: Instant::now(),
            started_unix_ns,
            progress,
            latency: Latency::new(),
            plan,
        }
    }

    fn mode(&self) -> Mode {
        if self.plan.no_ack { Mode::Unacked } else { Mode::Acked }
    }

    fn since_start_ns(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Runs all sources of `plan` to their end and reports.
///
/// When `stop` is true or its sender is dropped, no new frames are sent. Sent frames are still acknowledged,
/// within [`Plan::linger`]. A source that fails ends alone, and the report names it. Sources reconnect
/// without limit while their feed lasts.
///
/// # Cancel safety
/// Dropping the future stops all sources at once. `progress` then shows what is missing.
///
/// # Panics
/// When a source panics.
pub async fn run(plan: Plan, stop: watch::Receiver<bool>, progress: Arc<Progress>) -> Report {
    let shared = Arc::new(Shared::new(plan, progress));
    let mut sources = JoinSet::new();
    for index in 0..shared.plan.sources() {
        sources.spawn(Source::new(Arc::clone(&shared), index, stop.clone()).run());
    }
    let mut errors = Vec::new();
    while let Some(joined) = sources.join_next().await {
        match joined {
            Ok(ended) => errors.extend(ended.err()),
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    let catalog = (shared.plan.catalog != CatalogWish::No).then(|| shared.progress.catalog_counts());
    let (counts, quantiles) = (shared.progress.counts(), shared.latency.quantiles());
    Report { catalog, ..Report::new(counts, quantiles, shared.started.elapsed(), errors) }
}
